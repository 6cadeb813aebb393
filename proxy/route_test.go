// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

func endpoint(address, workload, hash string) mesh.Endpoint {
	return mesh.Endpoint{Address: address, Workload: workload, PodTemplateHash: hash, Ready: true}
}

func terminating(e mesh.Endpoint) mesh.Endpoint {
	e.Ready = false
	return e
}

func weights(workload string, stable, canary uint32) mesh.Split {
	return mesh.Split{Workload: workload, Revisions: []mesh.RevisionWeight{
		{Name: "stable", PodTemplateHash: "s", Weight: stable},
		{Name: "canary", PodTemplateHash: "k", Weight: canary},
	}}
}

// shares returns a draw that gives the values one after the other.
func shares(values ...float64) func() float64 {
	return func() float64 {
		value := values[0]
		if len(values) > 1 {
			values = values[1:]
		}
		return value
	}
}

func addressesOf(tiers []tier) [][]string {
	var all [][]string
	for _, of := range tiers {
		names := []string{}
		for _, e := range of.endpoints {
			names = append(names, e.Address)
		}
		all = append(all, names)
	}
	return all
}

func TestChooseRoute(t *testing.T) {
	stable1, stable2 := endpoint("s1", "n/a", "s"), endpoint("s2", "n/a", "s")
	canary, old := endpoint("k1", "n/a", "k"), endpoint("o1", "n/a", "old")
	other := endpoint("b1", "n/b", "x")
	for name, test := range map[string]struct {
		destination mesh.Destination
		shares      []float64
		drawn       revision
		split       bool
		tiers       [][]string
	}{
		"nothing": {shares: []float64{0}},
		"no split: any endpoint": {
			destination: mesh.Destination{Endpoints: []mesh.Endpoint{stable1, canary}},
			shares:      []float64{0},
			drawn:       revision{workload: "n/a"},
			tiers:       [][]string{{"s1", "k1"}},
		},
		"no split: terminating ones come last": {
			destination: mesh.Destination{Endpoints: []mesh.Endpoint{terminating(stable1), stable2, other}},
			shares:      []float64{0},
			drawn:       revision{workload: "n/a"},
			tiers:       [][]string{{"s2"}, {"b1"}, {"s1"}},
		},
		"stable drawn; the canary has weight": {
			destination: mesh.Destination{Endpoints: []mesh.Endpoint{stable1, canary, stable2}, Splits: []mesh.Split{weights("n/a", 75, 25)}},
			shares:      []float64{0, 0.74},
			drawn:       revision{"n/a", "s"}, split: true,
			tiers: [][]string{{"s1", "s2"}, {"k1"}},
		},
		"canary drawn": {
			destination: mesh.Destination{Endpoints: []mesh.Endpoint{stable1, canary}, Splits: []mesh.Split{weights("n/a", 75, 25)}},
			shares:      []float64{0, 0.76},
			drawn:       revision{"n/a", "k"}, split: true,
			tiers: [][]string{{"k1"}, {"s1"}},
		},
		"canary with weight 0 is in no tier": {
			destination: mesh.Destination{Endpoints: []mesh.Endpoint{stable1, canary}, Splits: []mesh.Split{weights("n/a", 100, 0)}},
			shares:      []float64{0, 0.999},
			drawn:       revision{"n/a", "s"}, split: true,
			tiers: [][]string{{"s1"}},
		},
		"canary with weight 0 does not serve even alone": {
			destination: mesh.Destination{Endpoints: []mesh.Endpoint{canary}, Splits: []mesh.Split{weights("n/a", 100, 0)}},
			shares:      []float64{0, 0},
			drawn:       revision{"n/a", "s"}, split: true,
			tiers: [][]string{{}},
		},
		"stable with weight 0 still serves when the canary cannot": {
			destination: mesh.Destination{Endpoints: []mesh.Endpoint{stable1}, Splits: []mesh.Split{weights("n/a", 0, 100)}},
			shares:      []float64{0, 0},
			drawn:       revision{"n/a", "k"}, split: true,
			tiers: [][]string{{}, {"s1"}},
		},
		"unlisted revisions come after listed ones": {
			destination: mesh.Destination{Endpoints: []mesh.Endpoint{old, stable1, canary}, Splits: []mesh.Split{weights("n/a", 50, 50)}},
			shares:      []float64{0, 0},
			drawn:       revision{"n/a", "s"}, split: true,
			tiers: [][]string{{"s1"}, {"k1"}, {"o1"}},
		},
		"terminating ones after all ready ones": {
			destination: mesh.Destination{Endpoints: []mesh.Endpoint{terminating(canary), stable1}, Splits: []mesh.Split{weights("n/a", 50, 50)}},
			shares:      []float64{0, 0.9},
			drawn:       revision{"n/a", "k"}, split: true,
			tiers: [][]string{{}, {"s1"}, {"k1"}},
		},
		"weights that are all zero mean stable": {
			destination: mesh.Destination{Endpoints: []mesh.Endpoint{stable1, canary}, Splits: []mesh.Split{weights("n/a", 0, 0)}},
			shares:      []float64{0.9, 0.9},
			drawn:       revision{"n/a", "s"}, split: true,
			tiers: [][]string{{"s1"}},
		},
		"another workload of the Service is drawn in proportion": {
			destination: mesh.Destination{Endpoints: []mesh.Endpoint{stable1, stable2, canary, other}, Splits: []mesh.Split{weights("n/a", 50, 50)}},
			shares:      []float64{0.75},
			drawn:       revision{workload: "n/b"},
			tiers:       [][]string{{"b1"}, {"s1", "s2", "k1"}},
		},
		"a split workload falls back to another": {
			destination: mesh.Destination{Endpoints: []mesh.Endpoint{stable1, other}, Splits: []mesh.Split{weights("n/a", 100, 0)}},
			shares:      []float64{0.4, 0},
			drawn:       revision{"n/a", "s"}, split: true,
			tiers: [][]string{{"s1"}, {"b1"}},
		},
		"a pod's address without a split is that pod": {
			destination: mesh.Destination{Address: "s2", PodAddress: true, Endpoints: []mesh.Endpoint{stable1, stable2}},
			shares:      []float64{0},
			drawn:       revision{"n/a", "s"},
			tiers:       [][]string{{"s2"}},
		},
		"a pod's address with a split is its workload": {
			destination: mesh.Destination{Address: "s2", PodAddress: true, Endpoints: []mesh.Endpoint{stable1, stable2, canary}, Splits: []mesh.Split{weights("n/a", 50, 50)}},
			shares:      []float64{0, 0.6},
			drawn:       revision{"n/a", "k"}, split: true,
			tiers: [][]string{{"k1"}, {"s2"}, {"s1"}},
		},
		"a pod's address whose revision is drawn is that pod first": {
			destination: mesh.Destination{Address: "s2", PodAddress: true, Endpoints: []mesh.Endpoint{stable1, stable2, canary}, Splits: []mesh.Split{weights("n/a", 50, 50)}},
			shares:      []float64{0, 0.1},
			drawn:       revision{"n/a", "s"}, split: true,
			tiers: [][]string{{"s2"}, {"s1"}, {"k1"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := chooseRoute(newRoutes(mesh.Location{}), &test.destination, requestView{}, shares(test.shares...))
			require.Equal(t, test.drawn, got.drawn)
			require.Equal(t, test.split, got.split)
			require.Equal(t, test.tiers, addressesOf(got.tiers))
		})
	}
}

func TestChooseRouteSharesAreTheWeights(t *testing.T) {
	destination := &mesh.Destination{
		Endpoints: []mesh.Endpoint{endpoint("s1", "n/a", "s"), endpoint("k1", "n/a", "k"), endpoint("b1", "n/b", "x"), endpoint("b2", "n/b", "x")},
		Splits:    []mesh.Split{weights("n/a", 90, 10)},
	}
	random := rand.New(rand.NewPCG(1, 2))
	const draws = 100_000
	counts := map[revision]int{}
	for range draws {
		counts[chooseRoute(newRoutes(mesh.Location{}), destination, requestView{}, random.Float64).drawn]++
	}
	require.InDelta(t, draws*0.45, counts[revision{"n/a", "s"}], draws*0.01)
	require.InDelta(t, draws*0.05, counts[revision{"n/a", "k"}], draws*0.01)
	require.InDelta(t, draws*0.5, counts[revision{workload: "n/b"}], draws*0.01)
}

func TestDrawRevisionIsFinerThanAPercent(t *testing.T) {
	split := weights("n/a", 99_950, 50)
	random := rand.New(rand.NewPCG(3, 4))
	const draws = 2_000_000
	canary := 0
	for range draws {
		if drawn, _ := drawRevision(&split, requestView{}, random.Float64); drawn.Name == "canary" {
			canary++
		}
	}
	require.InDelta(t, draws*0.0005, canary, 150, "five standard deviations are 158")
}

func TestInboundRoute(t *testing.T) {
	inbound := func(hash string, split *mesh.Split, peers ...mesh.Endpoint) *mesh.Inbound {
		return &mesh.Inbound{Workload: "n/a", PodTemplateHash: hash, Split: split, Peers: peers}
	}
	half, none := weights("n/a", 50, 50), weights("n/a", 100, 0)
	stable, canary := endpoint("s1", "n/a", "s"), endpoint("k1", "n/a", "k")
	for name, test := range map[string]struct {
		inbound *mesh.Inbound
		where   place
		share   float64
		drawn   string
		tiers   [][]string
	}{
		"no split: own, then peers of the revision, then others": {inbound("s", nil, canary, stable), placeAny, 0, "s", [][]string{{"own"}, {"s1"}, {"k1"}}},
		"only own":                                    {inbound("s", &half, canary, stable), placeOwn, 0.9, "s", [][]string{{"own"}}},
		"split by the caller's proxy: own":            {inbound("k", &half, canary, stable), placeAny, 0, "k", [][]string{{"own"}, {"k1"}, {"s1"}}},
		"drawn for own":                               {inbound("s", &half, canary, stable), placeShared, 0.1, "s", [][]string{{"own"}, {"s1"}, {"k1"}}},
		"drawn for the other":                         {inbound("s", &half, canary, stable), placeShared, 0.9, "k", [][]string{{"k1"}, {"own"}, {"s1"}}},
		"drawn for the other, which has no pods":      {inbound("s", &half, stable), placeShared, 0.9, "k", [][]string{{}, {"own"}, {"s1"}}},
		"own has no weight":                           {inbound("k", &none, stable), placeShared, 0.9, "s", [][]string{{"s1"}}},
		"own has no weight, but the request was sent": {inbound("k", &none, stable), placeAny, 0.9, "k", [][]string{{"own"}, {"s1"}}},
		"own is not listed":                           {inbound("old", &half, stable), placeShared, 0, "s", [][]string{{"s1"}, {"own"}}},
		"no split where one was":                      {inbound("s", nil, canary), placeShared, 0.9, "s", [][]string{{"own"}, {"k1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := (&inboundSide{own: "own", where: test.where}).ways(&mesh.Snapshot{Inbound: *test.inbound}, newRoutes(mesh.Location{}), shares(test.share))
			require.Equal(t, revision{"n/a", test.drawn}, got.drawn)
			require.Equal(t, test.tiers, addressesOf(got.tiers))
		})
	}
}
