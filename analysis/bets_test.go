// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestComparisonIncrement(t *testing.T) {
	cases := []struct {
		ratio, tolerance, margin, share float64
		counts                          trial
		want                            float64
	}{
		{8, 1.5, 0.001, 0.05, trial{4, 40, 1, 760}, 6.078342},
		{8, 1.5, 0.001, 0.05, trial{0, 40, 8, 760}, -3.480111},
		{64, 1, 0, 0.05, trial{20, 40, 1, 760}, 53.292387},
		{0.02, 1, 0.1, 0.05, trial{0, 40, 1, 760}, 3.966119},
		{0.25, 1, 0.02, 0.25, trial{1, 250, 3, 750}, 2.905802},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("ratio %v of %v", c.ratio, c.counts), func(t *testing.T) {
			hypothesis := comparison{tolerance: c.tolerance, margin: c.margin}
			require.InDelta(t, c.want, hypothesis.increment(c.ratio, c.share, c.counts), 1e-6)
		})
	}
}

func TestObjectiveIncrement(t *testing.T) {
	require.InDelta(t, 5.175445, objectiveIncrement(0.16, 0.01, 4, 40), 1e-6)
	require.InDelta(t, -1.247750, objectiveIncrement(0.02, 0.01, 4, 400), 1e-6)
}

// At the edge of the hypothesis the expectation of a bet, summed over every outcome, is at most 1.
func TestComparisonExpectation(t *testing.T) {
	cases := []struct {
		ratio, tolerance, margin float64
		canary, stable           int
		rate                     float64 // of stable
		want                     float64 // 0: only the bound is known
	}{
		{8, 1.5, 0.001, 5, 20, 0.01, 0.997646},
		{64, 1, 0, 5, 20, 0.1, 0.691927},
		{1.25, 1.5, 0.001, 10, 10, 0.3, 0.984761},
		{0.25, 1, 0.05, 8, 30, 0.02, 0.989822},
		{256, 1.5, 0, 3, 3, 0.001, 0},
		{0.02, 1, 0.2, 20, 2, 0.5, 0},
		{2, 1, 0, 1, 40, 0, 0},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			hypothesis := comparison{tolerance: c.tolerance, margin: c.margin}
			share := float64(c.canary) / float64(c.canary+c.stable)
			expectation := 0.0
			for x := range c.canary + 1 {
				for y := range c.stable + 1 {
					counts := trial{float64(x), float64(c.canary), float64(y), float64(c.stable)}
					expectation += binomial(c.canary, x, c.tolerance*c.rate+c.margin) * binomial(c.stable, y, c.rate) *
						math.Exp(hypothesis.increment(c.ratio, share, counts))
				}
			}
			require.LessOrEqual(t, expectation, 1+1e-12)
			if c.want != 0 {
				require.InDelta(t, c.want, expectation, 1e-6)
			}
		})
	}
}

func binomial(n, k int, p float64) float64 {
	coefficient := 1.0
	for i := range k {
		coefficient = coefficient * float64(n-i) / float64(i+1)
	}
	return coefficient * math.Pow(p, float64(k)) * math.Pow(1-p, float64(n-k))
}
