// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

func TestClientsAreToldApart(t *testing.T) {
	six := func(text string) mesh.Caller { return mesh.Caller{Address: netip.MustParseAddr(text)} }
	require.Equal(t, ratedAs(six("fd00::1")), ratedAs(six("fd00::2:3")), "one network of IPv6 is one client")
	require.NotEqual(t, ratedAs(six("fd00::1")), ratedAs(six("fd00:0:0:1::1")))
	require.NotEqual(t, ratedAs(six("10.0.0.1")), ratedAs(six("10.0.0.2")))
	require.Equal(t, ratedAs(mesh.Caller{Identity: "a", Address: netip.MustParseAddr("10.0.0.1")}), ratedAs(mesh.Caller{Identity: "a"}),
		"an identity is one client wherever it calls from")
}

// However many clients come, what is kept of them is bounded: what is beyond shares one allowance, and who
// was there before keeps its own.
func TestRatedClientsAreBounded(t *testing.T) {
	of := &rated{limit: mesh.RateLimit{Interval: time.Second, Burst: 2}, clients: map[ratedClient]mesh.Rated{}}
	const start = time.Hour
	known := ratedClient{identity: "known"}
	for range 2 {
		_, ok := of.take(known, start)
		require.True(t, ok)
	}
	passed := 0
	for i := range 2 * ratedMost {
		if _, ok := of.take(ratedClient{identity: fmt.Sprint(i)}, start); ok {
			passed++
		}
	}
	require.Len(t, of.clients, ratedMost)
	require.Equal(t, ratedMost-1+2, passed)
	_, ok := of.take(known, start)
	require.False(t, ok)
	wait, ok := of.take(ratedClient{identity: "late"}, start)
	require.False(t, ok)
	require.Equal(t, time.Second, wait)
	// Whoever has rested makes room.
	_, ok = of.take(ratedClient{identity: "late"}, start+5*time.Second)
	require.True(t, ok)
	require.Len(t, of.clients, 1)
}

// A configuration that leaves a limit as it was does not give everybody a new allowance.
func TestLimitsGoOnCounting(t *testing.T) {
	r := newRates(func() time.Time { return time.Unix(1, 0) })
	limits := func(burst uint32) *mesh.Access {
		return &mesh.Access{Limits: []mesh.RateLimit{{Name: "a", Interval: time.Second, Burst: burst}}}
	}
	from := mesh.Caller{Identity: "x"}
	r.apply(limits(1))
	exceeded, _ := r.take(limits(1), from)
	require.Empty(t, exceeded)
	r.apply(limits(1))
	exceeded, wait := r.take(limits(1), from)
	require.Equal(t, "a", exceeded)
	require.Equal(t, time.Second, wait)
	r.apply(limits(5))
	exceeded, _ = r.take(limits(5), from)
	require.Empty(t, exceeded)
	r.apply(nil)
	exceeded, _ = r.take(limits(5), from)
	require.Empty(t, exceeded)
}

func TestRetryAfterIsRoundedUp(t *testing.T) {
	for wait, want := range map[time.Duration]int64{1: 1, time.Second: 1, time.Second + 1: 2, time.Minute: 60} {
		require.Equal(t, want, limited(wait).retryAfter)
	}
}
