// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

func netipAddr(text string) netip.Addr { return netip.MustParseAddr(text) }

func tiersOf(tiers ...[]string) [][]*mesh.Endpoint {
	var all [][]*mesh.Endpoint
	for _, addresses := range tiers {
		var tier []*mesh.Endpoint
		for _, address := range addresses {
			tier = append(tier, &mesh.Endpoint{Address: address})
		}
		all = append(all, tier)
	}
	return all
}

func TestPick(t *testing.T) {
	for name, test := range map[string]struct {
		tiers    [][]string
		suspects []string
		want     []string
	}{
		"nothing":             {},
		"one":                 {tiers: [][]string{{"a"}}, want: []string{"a"}},
		"an empty first tier": {tiers: [][]string{{}, {"b"}}, want: []string{"b"}},
		"two fail, then another tier, then the rest": {tiers: [][]string{{"a1", "a2", "a3"}, {"b"}}, want: []string{"a", "a", "b", "a"}},
		"suspects come last":                         {tiers: [][]string{{"a"}, {"b"}}, suspects: []string{"a"}, want: []string{"b", "a"}},
		"all suspect":                                {tiers: [][]string{{"a"}}, suspects: []string{"a"}, want: []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBalancer(time.Now)
			for _, address := range test.suspects {
				b.suspect(address)
			}
			var tried tries
			var got []string
			for {
				endpoint := b.pick(tiersOf(test.tiers...), &tried, rand.Float64)
				if endpoint == nil {
					break
				}
				tried.add(endpoint.Address)
				got = append(got, endpoint.Address[:1])
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestSuspicionEnds(t *testing.T) {
	now := time.Unix(0, 0)
	b := newBalancer(func() time.Time { return now })
	b.suspect("a")
	require.True(t, b.suspected("a"))
	now = now.Add(suspectTime)
	require.False(t, b.suspected("a"))
}

func TestLessOpenIsPreferred(t *testing.T) {
	b := newBalancer(time.Now)
	for range 10 {
		b.claim("busy")
	}
	tiers := tiersOf([]string{"busy", "free"})
	for range 100 {
		require.Equal(t, "free", b.pick(tiers, &tries{}, rand.Float64).Address)
	}
}

func TestForgetKeepsWhatIsOpen(t *testing.T) {
	b := newBalancer(time.Now)
	open := b.claim("open")
	b.claim("done").release()
	b.claim("known").release()
	b.forget(func(address string) bool { return address == "known" })
	require.Len(t, b.loads, 2)
	open.release()
	require.Zero(t, b.loads["open"].open.Load())
}
