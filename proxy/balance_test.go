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

// tiersOf are tiers of endpoints; one that begins with "farther" is only farther than the one before.
func tiersOf(tiers ...[]string) []tier {
	var all []tier
	for _, addresses := range tiers {
		var made tier
		for _, address := range addresses {
			if address == "farther" {
				made.farther = true
				continue
			}
			made.endpoints = append(made.endpoints, &mesh.Endpoint{Address: address})
		}
		all = append(all, made)
	}
	return all
}

func suspect(b *balancer, address string) {
	for range suspectAfter {
		b.timedOut(address)
	}
}

func TestPick(t *testing.T) {
	for name, test := range map[string]struct {
		tiers            [][]string
		suspects, probed []string
		want             []string
	}{
		"nothing":             {},
		"one":                 {tiers: [][]string{{"a"}}, want: []string{"a"}},
		"an empty first tier": {tiers: [][]string{{}, {"b"}}, want: []string{"b"}},
		"two fail, then another tier, then the rest": {tiers: [][]string{{"a1", "a2", "a3"}, {"b"}}, want: []string{"a", "a", "b", "a"}},
		"suspects come last of their tier":           {tiers: [][]string{{"a", "b"}, {"c"}}, suspects: []string{"a"}, want: []string{"b", "a", "c"}},
		"a tier of suspects is tried":                {tiers: [][]string{{"a"}, {"b"}}, suspects: []string{"a"}, want: []string{"a", "b"}},
		"but not while another tries":                {tiers: [][]string{{"a"}, {"b"}}, suspects: []string{"a"}, probed: []string{"a"}, want: []string{"b", "a"}},
		"suspects nearby wait while others are farther": {
			tiers: [][]string{{"a"}, {"farther", "b"}, {"c"}}, suspects: []string{"a"}, want: []string{"b", "c", "a"},
		},
		"unless those are suspects, too": {
			tiers: [][]string{{"a"}, {"farther", "b"}, {"c"}}, suspects: []string{"a", "b"}, want: []string{"b", "c", "a"},
		},
		"one nearby fails, then those farther, then another tier": {
			tiers: [][]string{{"a1", "a2", "a3"}, {"farther", "b1", "b2"}, {"c"}}, want: []string{"a", "b", "b", "c", "a", "a"},
		},
		"another tier is tried before a request is given up": {
			tiers: [][]string{{"a1", "a2", "a3"}, {"farther", "b1", "b2"}, {"farther", "c1", "c2", "c3"}, {"d"}},
			want:  []string{"a", "b", "c", "c", "d", "a", "a", "b", "c"},
		},
		"the others nearby are tried when nobody is left elsewhere": {
			tiers: [][]string{{"a1", "a2", "a3"}, {"farther", "b"}}, want: []string{"a", "b", "a", "a"},
		},
		"unless there is nothing else": {tiers: [][]string{{"a"}}, suspects: []string{"a"}, probed: []string{"a"}, want: []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBalancer(time.Now)
			for _, address := range test.suspects {
				suspect(b, address)
			}
			for _, address := range test.probed {
				require.True(t, b.probe(address, true))
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

// A suspect beside others is passed over for a while. Then one request tries it, until it is connected.
func TestSuspicionEnds(t *testing.T) {
	now := time.Unix(1, 0)
	b := newBalancer(func() time.Time { return now })
	tiers := tiersOf([]string{"a", "b"})
	picks := func() map[string]int {
		seen := map[string]int{}
		for range 20 {
			seen[b.pick(tiers, &tries{}, rand.Float64).Address]++
		}
		return seen
	}
	suspect(b, "a")
	now = now.Add(suspectTime - 1)
	require.Equal(t, map[string]int{"b": 20}, picks())
	now = now.Add(1)
	require.Equal(t, map[string]int{"a": 1, "b": 19}, picks())
	b.of("a").probed.Store(false)
	suspect(b, "a")
	require.Equal(t, map[string]int{"b": 20}, picks())
	b.of("a").trust()
	require.Greater(t, picks()["a"], 1)
}

func TestSuspectAfterTimeoutsInARow(t *testing.T) {
	b := newBalancer(time.Now)
	for range 2 * suspectAfter {
		b.timedOut("a")
		b.of("a").trust()
	}
	require.Zero(t, b.of("a").suspectSince.Load())
	suspect(b, "a")
	require.NotZero(t, b.of("a").suspectSince.Load())
	b.of("a").trust()
	require.Zero(t, b.of("a").suspectSince.Load())
}

func TestLessOpenIsPreferred(t *testing.T) {
	b := newBalancer(time.Now)
	for range 10 {
		b.claim("busy", 0)
	}
	tiers := tiersOf([]string{"busy", "free"})
	for range 100 {
		require.Equal(t, "free", b.pick(tiers, &tries{}, rand.Float64).Address)
	}
}

func TestForgetKeepsWhatIsOpen(t *testing.T) {
	b := newBalancer(time.Now)
	open := b.claim("open", 0)
	b.claim("done", 0).release()
	b.claim("known", 0).release()
	b.forget(func(address string) bool { return address == "known" })
	require.Len(t, b.loads, 2)
	open.release()
	require.Zero(t, b.loads["open"].open.Load())
}

// TestFullEndpointsAreNotLeft: where endpoints have as much open as they may, others of their tier serve,
// and those of another do not.
func TestFullEndpointsAreNotLeft(t *testing.T) {
	for name, test := range map[string]struct {
		tiers        [][]string
		full, failed []string
		want         string
		isFull       bool
	}{
		"nothing is full":                     {tiers: [][]string{{"a"}, {"b"}}, want: "a"},
		"one of two":                          {tiers: [][]string{{"a", "b"}, {"c"}}, full: []string{"a"}, want: "b", isFull: true},
		"all of the tier":                     {tiers: [][]string{{"a", "b"}, {"c"}}, full: []string{"a", "b"}, isFull: true},
		"and the rest has failed":             {tiers: [][]string{{"a", "b"}, {"c"}}, full: []string{"a"}, failed: []string{"b"}, isFull: true},
		"but two failed":                      {tiers: [][]string{{"a", "b", "d"}, {"c"}}, full: []string{"a"}, failed: []string{"b", "d"}, want: "c"},
		"and one has room":                    {tiers: [][]string{{"a", "b", "d", "e"}}, full: []string{"a"}, failed: []string{"b", "d"}, want: "e", isFull: true},
		"those nearby, but not those farther": {tiers: [][]string{{"a"}, {"farther", "b"}, {"c"}}, full: []string{"a"}, want: "b"},
		"those nearby and those farther":      {tiers: [][]string{{"a"}, {"farther", "b"}, {"c"}}, full: []string{"a", "b"}, isFull: true},
		"those nearby; the farther one failed": {
			tiers: [][]string{{"a"}, {"farther", "b"}, {"c"}}, full: []string{"a"}, failed: []string{"b"}, isFull: true,
		},
		"those farther; the nearby one failed": {
			tiers: [][]string{{"a"}, {"farther", "b"}, {"c"}}, full: []string{"b"}, failed: []string{"a"}, isFull: true,
		},
		"those farther; one of two nearby failed": {
			tiers: [][]string{{"a", "d"}, {"farther", "b"}, {"c"}}, full: []string{"b"}, failed: []string{"a"}, want: "d",
		},
		"the rest nearby; the farther one failed": {
			tiers: [][]string{{"a", "d"}, {"farther", "b"}, {"c"}}, full: []string{"d"}, failed: []string{"a", "b"}, isFull: true,
		},
		"an empty tier is not full": {tiers: [][]string{{}, {"c"}}, want: "c"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBalancer(time.Now)
			tried := tries{most: 2}
			for _, address := range test.full {
				require.NotNil(t, b.claim(address, 2))
				require.NotNil(t, b.claim(address, 2))
				require.Nil(t, b.claim(address, 2))
			}
			for _, address := range test.failed {
				tried.add(address)
			}
			got := ""
			if endpoint := b.pick(tiersOf(test.tiers...), &tried, rand.Float64); endpoint != nil {
				got = endpoint.Address
			}
			require.Equal(t, test.want, got)
			require.Equal(t, test.isFull, tried.full != nil)
		})
	}
}
