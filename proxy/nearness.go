// SPDX-License-Identifier: Apache-2.0

package proxy

import "github.com/sluice-mesh/sluice/mesh"

// nearnessCount is of how many nearnesses a tier may be.
const nearnessCount = mesh.Far + 1

// nearestFirst cuts each tier into the endpoints that are meant for callers of the own node, those for the own
// zone, and the rest. The order of revisions stays: where one has none nearby, its others serve.
func nearestFirst(tiers []tier, at mesh.Location) []tier {
	if at == (mesh.Location{}) {
		return tiers
	}
	cut := make([]tier, 0, len(tiers))
	for _, of := range tiers {
		var near [nearnessCount]tier
		for _, endpoint := range of.endpoints {
			part := &near[endpoint.Hints.Nearness(at)]
			part.endpoints = append(part.endpoints, endpoint)
		}
		first := len(cut)
		for _, part := range near {
			if len(part.endpoints) > 0 {
				part.farther = len(cut) > first
				cut = append(cut, part)
			}
		}
		if len(cut) == first {
			cut = append(cut, of) // Its emptiness says something.
		}
	}
	return cut
}

// drawWorkload gives each workload a share in proportion to its ready endpoints, of them to the nearest, or
// to all of them while none is ready.
func drawWorkload(endpoints []mesh.Endpoint, at mesh.Location, draw func() float64) string {
	best, count := nearnessCount, 0
	for i := range endpoints {
		switch nearness := nearnessOf(&endpoints[i], at); {
		case nearness < best:
			best, count = nearness, 1
		case nearness == best:
			count++
		}
	}
	nth := int(draw() * float64(count))
	for i := range endpoints {
		if nearnessOf(&endpoints[i], at) != best {
			continue
		}
		if nth == 0 {
			return endpoints[i].Workload
		}
		nth--
	}
	return endpoints[len(endpoints)-1].Workload
}

// nearnessOf has who is on the way out farther than anybody.
func nearnessOf(endpoint *mesh.Endpoint, at mesh.Location) mesh.Nearness {
	if !endpoint.Ready {
		return nearnessCount
	}
	return endpoint.Hints.Nearness(at)
}
