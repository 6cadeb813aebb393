// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

func TestRetryBudget(t *testing.T) {
	for name, test := range map[string]struct {
		policy   mesh.Retries
		requests int
		// sent are the retries that there may be at once, later those that there may be 11 s later.
		sent, later int
	}{
		"a fifth of the requests":               {mesh.Retries{Percent: 20, Interval: 10_000, MinInterval: 1000}, 100, 20, 0},
		"and the least rate when there are few": {mesh.Retries{Percent: 20, Interval: 10_000, MinCount: 10, MinInterval: 1000}, 1, 10, 10},
		"which is no addition":                  {mesh.Retries{Percent: 20, Interval: 10_000, MinCount: 10, MinInterval: 1000}, 100, 20, 10},
		"nothing":                               {mesh.Retries{Interval: 10_000, MinInterval: 1000}, 100, 0, 0},
		"as many as requests":                   {mesh.Retries{Percent: 100, Interval: 60_000, MinInterval: 1000}, 7, 7, 0},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1_000_000, 0)
			var b retryBudget
			for range test.requests {
				b.request(now, &test.policy)
			}
			take := func() (taken int) {
				for b.take(now, &test.policy) {
					taken++
				}
				return taken
			}
			require.Equal(t, test.sent, take())
			now = now.Add(11 * time.Second)
			require.Equal(t, test.later, take())
		})
	}
}

// TestRetryBudgetIsKept: whatever happens when, no more retries are sent in an interval than its share and
// the least rate allow.
func TestRetryBudgetIsKept(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(1, seed))
		policy := mesh.Retries{
			Percent: uint32(random.IntN(101)), Interval: 1000 + uint32(random.IntN(20_000)),
			MinCount: uint32(random.IntN(5)), MinInterval: 1000 + uint32(random.IntN(3000)),
		}
		now := time.Unix(1_000_000, 0)
		var b retryBudget
		var requests, retries []time.Time
		within := func(times []time.Time, milliseconds uint32) (count int) {
			for _, at := range times {
				if now.Sub(at) < time.Duration(milliseconds)*time.Millisecond {
					count++
				}
			}
			return count
		}
		for range 1000 {
			now = now.Add(time.Duration(random.IntN(100)) * time.Millisecond)
			if random.IntN(2) == 0 {
				b.request(now, &policy)
				requests = append(requests, now)
				continue
			}
			least := within(retries, policy.MinInterval)
			if !b.take(now, &policy) {
				continue
			}
			retries = append(retries, now)
			// A slot more than the interval is looked back at.
			share := within(requests, policy.Interval+policy.Interval/budgetSlots+budgetSlots) * int(policy.Percent) / 100
			require.True(t, within(retries, policy.Interval) <= share || least < int(policy.MinCount), "seed %d", seed)
		}
	}
}

func TestBudgetsAreForgotten(t *testing.T) {
	b := newRetryBudgets()
	to := &mesh.Destination{Service: mesh.Service{Namespace: "shop", Name: "shop"}, Retries: &mesh.Retries{}}
	kept := b.begin(time.Unix(1, 0), to)
	require.Same(t, kept, b.begin(time.Unix(2, 0), to))
	b.forget(&mesh.Snapshot{Destinations: map[string]*mesh.Destination{"a": to}})
	require.Len(t, b.of, 1)
	b.forget(&mesh.Snapshot{})
	require.Empty(t, b.of)
}

func TestTiersWithin(t *testing.T) {
	endpoint := func(hash string) *mesh.Endpoint { return &mesh.Endpoint{Workload: "shop/shop", PodTemplateHash: hash} }
	s, k := endpoint("s"), endpoint("k")
	of := revisionOf(s)
	tiers := func(all ...[]*mesh.Endpoint) (made []tier) {
		for _, endpoints := range all {
			made = append(made, tier{endpoints: endpoints})
		}
		return made
	}
	one, two, other := []*mesh.Endpoint{s}, []*mesh.Endpoint{s, s}, []*mesh.Endpoint{k}
	require.Nil(t, tiersWithin(tiers(nil, other), of))
	require.Equal(t, tiers(one), tiersWithin(tiers(other, one, other), of))
	require.Equal(t, tiers(one, two), tiersWithin(tiers(one, two, other, one), of))
}
