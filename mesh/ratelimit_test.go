// SPDX-License-Identifier: Apache-2.0

package mesh_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

// bucket is the reference: Burst tokens at first and at most, one more each interval, a little at a time. A
// request takes a whole one. Levels are in nanoseconds of filling, so that nothing is rounded.
type bucket struct {
	limit mesh.RateLimit
	level time.Duration
	at    time.Duration
}

func newBucket(limit mesh.RateLimit) *bucket {
	return &bucket{limit: limit, level: time.Duration(limit.Burst) * limit.Interval}
}

func (b *bucket) take(now time.Duration) (wait time.Duration, ok bool) {
	b.level = min(b.level+now-b.at, time.Duration(b.limit.Burst)*b.limit.Interval)
	b.at = now
	if b.level < b.limit.Interval {
		return b.limit.Interval - b.level, false
	}
	b.level -= b.limit.Interval
	return 0, true
}

func TestRateLimitIsATokenBucket(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 0))
		limit := mesh.RateLimit{Interval: time.Duration(1 + random.Int64N(1e9)), Burst: 1 + random.Uint32N(20)}
		reference, kept, now := newBucket(limit), mesh.Rated(0), time.Duration(0)
		for range 200 {
			switch random.IntN(3) {
			case 0:
				now += time.Duration(random.Int64N(int64(limit.Interval) + 1))
			case 1:
				now += time.Duration(random.Int64N(int64(limit.Interval)*int64(limit.Burst) + 1))
			}
			wantWait, want := reference.take(now)
			next, wait, ok := limit.Take(kept, now)
			require.Equal(t, want, ok, "seed %d", seed)
			require.Equal(t, wantWait, wait, "seed %d", seed)
			if !ok {
				require.Equal(t, kept, next, "what is refused costs nothing")
				_, _, late := limit.Take(kept, now+wait)
				require.True(t, late, "seed %d: the wait is long enough", seed)
				_, _, early := limit.Take(kept, now+wait-1)
				require.False(t, early, "seed %d: and no longer than that", seed)
			}
			kept = next
			require.Equal(t, reference.level+now-reference.at == time.Duration(limit.Burst)*limit.Interval, kept.Rested(now))
		}
	}
}

func TestRateLimitCountsBursts(t *testing.T) {
	limit := mesh.RateLimit{Interval: 100 * time.Millisecond, Burst: 3}
	var kept mesh.Rated
	var ok bool
	var wait time.Duration
	for range 3 {
		kept, _, ok = limit.Take(kept, 0)
		require.True(t, ok)
	}
	kept, wait, ok = limit.Take(kept, 0)
	require.False(t, ok)
	require.Equal(t, 100*time.Millisecond, wait)
	_, _, ok = limit.Take(kept, 100*time.Millisecond)
	require.True(t, ok)
}

func TestWhatRateLimitsMean(t *testing.T) {
	exact := mesh.AccessRoute{Path: mesh.NewValueMatch("", mesh.MatchExact, "/login")}
	below := mesh.AccessRoute{Methods: []string{"POST"}, Path: mesh.NewValueMatch("", mesh.MatchPrefix, "/orders/")}
	spaced := mesh.AccessRoute{Path: mesh.NewValueMatch("", mesh.MatchPrefix, "/a%20b")}
	for name, test := range map[string]struct {
		limit mesh.RateLimit
		asked mesh.Asked
		want  bool
	}{
		"anything":                  {mesh.RateLimit{}, mesh.Asked{Port: 1, Method: "GET", Path: "/"}, true},
		"a connection":              {mesh.RateLimit{}, mesh.Asked{Port: 1}, true},
		"a connection of a port":    {mesh.RateLimit{Ports: []uint16{2, 1}}, mesh.Asked{Port: 1}, true},
		"another port":              {mesh.RateLimit{Ports: []uint16{2}}, mesh.Asked{Port: 1, Method: "GET", Path: "/"}, false},
		"a connection, not a route": {mesh.RateLimit{Routes: []mesh.AccessRoute{{Methods: []string{"GET"}}}}, mesh.Asked{Port: 1}, false},
		"a method":                  {mesh.RateLimit{Routes: []mesh.AccessRoute{{Methods: []string{"GET"}}}}, mesh.Asked{Method: "GET", Path: "*"}, true},
		"another method":            {mesh.RateLimit{Routes: []mesh.AccessRoute{{Methods: []string{"GET"}}}}, mesh.Asked{Method: "PUT", Path: "/"}, false},
		"any route":                 {mesh.RateLimit{Routes: []mesh.AccessRoute{exact, below}}, mesh.Asked{Method: "POST", Path: "/orders/1"}, true},
		"no route":                  {mesh.RateLimit{Routes: []mesh.AccessRoute{exact, below}}, mesh.Asked{Method: "GET", Path: "/orders/1"}, false},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, test.limit.Means(test.asked)) })
	}
	for path, want := range map[string][3]bool{ // exact, below, spaced
		"/login": {true}, "/login/": {}, "/logins": {}, "/Login": {}, "/": {}, "": {true, true, true}, "/l": {},
		"/orders": {false, true}, "/orders/": {false, true}, "/orders/1": {false, true}, "/orders1": {},
		"/a b": {false, false, true}, "/a%20b/c": {false, false, true}, "/a%20": {},
		// Other ways to write the same.
		"/%6cogin": {true}, "/%6Cogin": {true}, "/%6fgin": {}, "/%6frders/1": {false, true},
		// What could be anything.
		"//login": {true, true, true}, "/a/../login": {true, true, true}, "/a%2flogin": {true, true, true},
		"/login;x": {true, true, true}, "/login%": {true, true, true}, "/./login": {true, true, true}, "*": {true, true, true},
	} {
		for i, route := range []mesh.AccessRoute{exact, below, spaced} {
			limit := mesh.RateLimit{Routes: []mesh.AccessRoute{route}}
			require.Equal(t, want[i], limit.Means(mesh.Asked{Method: "POST", Path: path}), "%s: %v", path, route)
		}
	}
}
