// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLatencyEdge(t *testing.T) {
	cases := []struct{ limit, want time.Duration }{
		{500 * time.Millisecond, 500 * time.Millisecond},
		{499 * time.Millisecond, 400 * time.Millisecond},
		{450 * time.Millisecond, 400 * time.Millisecond},
		{time.Millisecond, time.Millisecond},
		{1500 * time.Microsecond, time.Millisecond},
		{999 * time.Microsecond, 0},
		{0, 0},
		{-time.Second, 0},
		{time.Hour, 50 * time.Second},
	}
	for _, c := range cases {
		require.Equal(t, c.want, LatencyEdge(c.limit), "limit %v", c.limit)
	}
}

func TestEdges(t *testing.T) {
	at := func(milliseconds int64, share float64) EdgeShare {
		return EdgeShare{time.Duration(milliseconds) * time.Millisecond, share}
	}
	cases := []struct {
		name   string
		shares []EdgeShare
		want   [2]time.Duration
	}{
		{"none", nil, [2]time.Duration{}},
		{"usual", []EdgeShare{at(10, 0.9), at(50, 0.3), at(100, 0.08), at(200, 0.02), at(500, 0.001)}, [2]time.Duration{100 * time.Millisecond, 200 * time.Millisecond}},
		{"one serves for one", []EdgeShare{at(50, 0.6), at(100, 0.04), at(200, 0.001)}, [2]time.Duration{100 * time.Millisecond}},
		{"the objective's own edge is compared anyway", []EdgeShare{at(500, 0.05)}, [2]time.Duration{}},
		{"no responses", []EdgeShare{at(100, 0), at(200, 0)}, [2]time.Duration{}},
	}
	for _, c := range cases {
		require.Equal(t, c.want, Edges(c.shares, 500*time.Millisecond), c.name)
	}
}
