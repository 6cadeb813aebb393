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

// Every mixture that may fail or clear a canary keeps an expectation of at most 1 over two rounds,
// with its restart at the second.
func TestMixturesExpectation(t *testing.T) {
	const canary, stable, rate, budget = 3, 4, 0.05, 0.04
	cases := []struct {
		name       string
		bets       []bet
		canaryRate float64
	}{
		{"worse", betsWorse(comparison{tolerance, budget * marginShare}), tolerance*rate + budget*marginShare},
		{"blamed", betsWorse(comparison{tolerance: 1}), rate},
		{"better", betsBetter(budget), rate + budget},
		{"over", betsOver(budget), budget},
		{"under", betsUnder(2 * budget), 2 * budget},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			prior := 0.0
			for _, bet := range c.bets {
				prior += bet.prior
			}
			require.InDelta(t, 1, prior, 1e-9)
			var outcomes []observation
			var chances []float64
			for x := range canary + 1 {
				for y := range stable + 1 {
					outcomes = append(outcomes, observation{
						trial:  trial{float64(x), canary, float64(y), stable},
						share:  float64(canary) / (canary + stable),
						growth: 0.5,
					})
					chances = append(chances, binomial(canary, x, c.canaryRate)*binomial(stable, y, rate))
				}
			}
			var full, capped, plain float64
			for i, first := range outcomes {
				for j, second := range outcomes {
					second.inStep = true
					rounds := []observation{first, second}
					evidence := weigh(rounds, c.bets)
					require.LessOrEqual(t, evidence.capped, evidence.full+1e-12)
					require.LessOrEqual(t, evidence.capped, 1.0)
					full += chances[i] * chances[j] * math.Exp(evidence.full)
					capped += chances[i] * chances[j] * math.Exp(evidence.capped)
					plain += chances[i] * chances[j] * math.Exp(total(rounds, c.bets))
				}
			}
			require.LessOrEqual(t, full, 1+1e-9)
			require.LessOrEqual(t, capped, 1+1e-9)
			require.LessOrEqual(t, plain, 1+1e-9)
			require.Greater(t, full, 0.5, "the bets are worth making")
		})
	}
}

func TestEvidenceRisesWithBadRequestsOfTheCanary(t *testing.T) {
	bets := betsWorse(comparison{tolerance, 0.001})
	before := math.Inf(-1)
	for bad := range 41 {
		now := weigh([]observation{{trial: trial{float64(bad), 40, 2, 760}, share: 0.05, growth: 100}}, bets).full
		require.Greater(t, now, before)
		before = now
	}
}

func TestBetsOverStayBelowOne(t *testing.T) {
	for _, limit := range []float64{0.00001, 0.01, 0.5, 0.7, 0.95, 0.99999} {
		for _, bad := range []float64{0, 10} {
			sum := total([]observation{{trial: trial{canaryBad: bad, canaryAll: 10}}}, betsOver(limit))
			require.False(t, math.IsNaN(sum) || math.IsInf(sum, 0), "limit %v", limit)
		}
	}
}

func binomial(n, k int, p float64) float64 {
	coefficient := 1.0
	for i := range k {
		coefficient = coefficient * float64(n-i) / float64(i+1)
	}
	return coefficient * math.Pow(p, float64(k)) * math.Pow(1-p, float64(n-k))
}
