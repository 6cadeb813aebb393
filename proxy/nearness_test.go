// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

func inZone(e mesh.Endpoint, zone string) mesh.Endpoint {
	e.Hints.Zones = zone
	return e
}

func onNode(e mesh.Endpoint, node string) mesh.Endpoint {
	e.Hints.Nodes = node
	return e
}

func TestNearestFirst(t *testing.T) {
	here := mesh.Location{Node: "n1", Zone: "a"}
	near, far := inZone(endpoint("near", "n/a", "s"), "a"), inZone(endpoint("far", "n/a", "s"), "b")
	canaryFar, canaryNear := inZone(endpoint("k-far", "n/a", "k"), "b"), inZone(endpoint("k-near", "n/a", "k"), "a")
	node := onNode(inZone(endpoint("node", "n/a", "s"), "a"), "n1")
	other, otherFar := inZone(endpoint("other", "n/b", "x"), "a"), inZone(endpoint("other-far", "n/b", "x"), "b")
	leaving := terminating(endpoint("leaving", "n/a", "s"))
	half := []mesh.Split{weights("n/a", 50, 50)}
	for name, test := range map[string]struct {
		endpoints []mesh.Endpoint
		splits    []mesh.Split
		at        mesh.Location
		shares    []float64
		tiers     [][]string
		// farther is which of the tiers are.
		farther []int
	}{
		"the zone first, then the rest": {
			endpoints: []mesh.Endpoint{far, near}, at: here, shares: []float64{0},
			tiers: [][]string{{"near"}, {"far"}}, farther: []int{1},
		},
		"the node, the zone, the rest": {
			endpoints: []mesh.Endpoint{far, near, node}, at: here, shares: []float64{0},
			tiers: [][]string{{"node"}, {"near"}, {"far"}}, farther: []int{1, 2},
		},
		"none in the zone": {
			endpoints: []mesh.Endpoint{far, near}, at: mesh.Location{Zone: "c"}, shares: []float64{0},
			tiers: [][]string{{"far", "near"}},
		},
		"nobody knows where the caller is": {
			endpoints: []mesh.Endpoint{far, near}, shares: []float64{0},
			tiers: [][]string{{"far", "near"}},
		},
		"no hints": {
			endpoints: []mesh.Endpoint{endpoint("s1", "n/a", "s"), endpoint("s2", "n/a", "s")}, at: here, shares: []float64{0},
			tiers: [][]string{{"s1", "s2"}},
		},
		"who is on the way out still comes last": {
			endpoints: []mesh.Endpoint{far, near, leaving}, at: here, shares: []float64{0},
			tiers: [][]string{{"near"}, {"far"}, {"leaving"}}, farther: []int{1},
		},
		"the revision before the zone": {
			endpoints: []mesh.Endpoint{far, near, canaryFar, canaryNear}, splits: half, at: here, shares: []float64{0, 0.9},
			tiers: [][]string{{"k-near"}, {"k-far"}, {"near"}, {"far"}}, farther: []int{1, 3},
		},
		"a revision that has none in the zone": {
			endpoints: []mesh.Endpoint{far, near, canaryFar}, splits: half, at: here, shares: []float64{0, 0.9},
			tiers: [][]string{{"k-far"}, {"near"}, {"far"}}, farther: []int{2},
		},
		"a revision that has none": {
			endpoints: []mesh.Endpoint{far, near}, splits: half, at: here, shares: []float64{0, 0.9},
			tiers: [][]string{{}, {"near"}, {"far"}}, farther: []int{2},
		},
		"workloads by what they have nearby": {
			endpoints: []mesh.Endpoint{near, far, otherFar}, at: here, shares: []float64{0.99},
			tiers: [][]string{{"near"}, {"far"}, {"other-far"}}, farther: []int{1},
		},
		"and the other, if that is nearby": {
			endpoints: []mesh.Endpoint{far, other}, at: here, shares: []float64{0},
			tiers: [][]string{{"other"}, {"far"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			destination := &mesh.Destination{Endpoints: test.endpoints, Splits: test.splits}
			got := chooseRoute(newRoutes(test.at), destination, requestView{}, shares(test.shares...))
			require.Equal(t, test.tiers, addressesOf(got.tiers))
			var farther []int
			for i, of := range got.tiers {
				if of.farther {
					farther = append(farther, i)
				}
			}
			require.Equal(t, test.farther, farther)
		})
	}
}

// TestZonesLeaveSharesOfRevisionsAlone: one revision is nearby and the other is not.
func TestZonesLeaveSharesOfRevisionsAlone(t *testing.T) {
	destination := &mesh.Destination{
		Endpoints: []mesh.Endpoint{
			inZone(endpoint("s1", "n/a", "s"), "a"), inZone(endpoint("s2", "n/a", "s"), "a"), inZone(endpoint("k1", "n/a", "k"), "b"),
		},
		Splits: []mesh.Split{weights("n/a", 90, 10)},
	}
	random := rand.New(rand.NewPCG(1, 2))
	const draws = 100_000
	for _, zone := range []string{"a", "b", "c", ""} {
		kept, canary := newRoutes(mesh.Location{Zone: zone}), 0
		for range draws {
			chosen := chooseRoute(kept, destination, requestView{}, random.Float64)
			if chosen.drawn.hash == "k" {
				canary++
				require.Equal(t, "k1", chosen.tiers[0].endpoints[0].Address)
			}
		}
		require.InDelta(t, draws*0.1, canary, draws*0.005, "in zone %q", zone)
	}
}
