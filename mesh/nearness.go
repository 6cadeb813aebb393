// SPDX-License-Identifier: Apache-2.0

package mesh

import "strings"

// Location is where a pod runs. What is not known is empty.
type Location struct {
	Node string `json:"node,omitempty"`
	Zone string `json:"zone,omitempty"`
}

// Hints say for whose callers an endpoint is meant before others: the names of nodes and of zones, separated
// by commas, so that endpoints can be compared. Names of neither hold one.
type Hints struct {
	Nodes string `json:"nodes,omitempty"`
	Zones string `json:"zones,omitempty"`
}

// Nearness of an endpoint to a caller: less is nearer.
type Nearness uint8

// Nearnesses. Without a hint for the caller an endpoint is far.
const (
	NearNode Nearness = iota
	NearZone
	Far
)

// Nearness is that to a caller at a location.
func (h Hints) Nearness(of Location) Nearness {
	switch {
	case h == Hints{}:
	case holdsName(h.Nodes, of.Node):
		return NearNode
	case holdsName(h.Zones, of.Zone):
		return NearZone
	}
	return Far
}

func holdsName(list, name string) bool {
	for name != "" && list != "" {
		var one string
		one, list, _ = strings.Cut(list, ",")
		if one == name {
			return true
		}
	}
	return false
}
