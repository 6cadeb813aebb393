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
