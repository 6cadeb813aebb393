// SPDX-License-Identifier: Apache-2.0

package backtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/simulation"
)

func TestClassesKeepCounts(t *testing.T) {
	for _, counts := range []analysis.Counts{
		{},
		{Requests: 100, Errors: 7},
		{Requests: 100, Errors: 100, Over: [2]uint64{30, 5}, Slow: 2},
		{Requests: 100, Over: [2]uint64{5, 30}, Slow: 10},
		{Requests: 100, Over: [2]uint64{5, 30}, Slow: 60},
		{Requests: 9, Over: [2]uint64{0, 3}, Slow: 3},
	} {
		require.Equal(t, counts, newClasses(counts).counts())
		require.Equal(t, counts, draw(counts, 1, simulation.NewSampler(1, 1)))
		require.Equal(t, analysis.Counts{}, draw(counts, 0, simulation.NewSampler(1, 1)))
	}
	require.Equal(t, analysis.Counts{Requests: 5, Slow: 5}, newClasses(analysis.Counts{Requests: 5, Slow: 9}).counts(), "no more than there are")
}

// What is drawn is a part of what there was, and so is the rest; on average it is the share asked for.
func TestDraws(t *testing.T) {
	random := simulation.NewSampler(3, 4)
	whole := analysis.Counts{Requests: 1000, Errors: 50, Over: [2]uint64{40, 200}, Slow: 10}
	var sum analysis.Counts
	const times = 2000
	for range times {
		part := draw(whole, 0.3, random)
		rest := minus(whole, part)
		require.Equal(t, whole, plus(part, rest))
		require.True(t, part.Slow <= part.Over[0] && part.Over[0] <= part.Over[1] && part.Over[1] <= part.Requests && part.Errors <= part.Requests)
		sum = plus(sum, part)
	}
	for _, pair := range [][2]uint64{{sum.Requests, whole.Requests}, {sum.Errors, whole.Errors}, {sum.Slow, whole.Slow}, {sum.Over[0], whole.Over[0]}, {sum.Over[1], whole.Over[1]}} {
		require.InDelta(t, 0.3, float64(pair[0])/times/float64(pair[1]), 0.01)
	}
}

func TestSpoils(t *testing.T) {
	random := simulation.NewSampler(3, 4)
	counts := analysis.Counts{Requests: 100_000, Errors: 1000, Over: [2]uint64{20_000, 4000}, Slow: 500}
	failing := Defect{Errors: 0.1}.spoil(counts, random)
	require.InDelta(t, 1000+9900, float64(failing.Errors), 300)
	failing.Errors = counts.Errors
	require.Equal(t, counts, failing)
	slow := Defect{Slow: 0.1}.spoil(counts, random)
	require.InDelta(t, 500+9950, float64(slow.Slow), 300)
	require.InDelta(t, 20_000+8000, float64(slow.Over[0]), 300)
	require.InDelta(t, 4000+9600, float64(slow.Over[1]), 300)
	require.Equal(t, counts.Requests, slow.Requests)
	require.Equal(t, counts, Defect{}.spoil(counts, random))
}
