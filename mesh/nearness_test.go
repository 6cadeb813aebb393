// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNearness(t *testing.T) {
	here := Location{Node: "n1", Zone: "a"}
	for name, test := range map[string]struct {
		hints Hints
		of    Location
		want  Nearness
	}{
		"no hints":                         {of: here, want: Far},
		"the zone":                         {hints: Hints{Zones: "a"}, of: here, want: NearZone},
		"another zone":                     {hints: Hints{Zones: "b"}, of: here, want: Far},
		"one of several":                   {hints: Hints{Zones: "b,a,c"}, of: here, want: NearZone},
		"the last of several":              {hints: Hints{Zones: "b,a"}, of: here, want: NearZone},
		"a name that only begins like it":  {hints: Hints{Zones: "ab,ba"}, of: here, want: Far},
		"the node":                         {hints: Hints{Nodes: "n1", Zones: "a"}, of: here, want: NearNode},
		"the node, of another zone":        {hints: Hints{Nodes: "n1", Zones: "b"}, of: here, want: NearNode},
		"another node of the zone":         {hints: Hints{Nodes: "n2", Zones: "a"}, of: here, want: NearZone},
		"a zone that has the node's name":  {hints: Hints{Zones: "n1"}, of: here, want: Far},
		"nobody knows where the caller is": {hints: Hints{Nodes: "n1", Zones: "a"}, want: Far},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, test.hints.Nearness(test.of)) })
	}
}
