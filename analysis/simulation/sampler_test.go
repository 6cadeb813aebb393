// SPDX-License-Identifier: Apache-2.0

package simulation

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// The samplers draw each count as often as its probability says, in the tails as well: Pearson's
// chi-squared over all counts with at least 5 expected draws.
func TestSamplersAreExact(t *testing.T) {
	const draws = 40_000
	poisson := func(mean float64) func(float64) float64 {
		return func(k float64) float64 { return math.Exp(k*math.Log(mean) - mean - logFactorial(k)) }
	}
	binomial := func(n, p float64) func(float64) float64 {
		return func(k float64) float64 {
			return math.Exp(logFactorial(n) - logFactorial(k) - logFactorial(n-k) + k*math.Log(p) + (n-k)*math.Log1p(-p))
		}
	}
	cases := []struct {
		name   string
		draw   func(Sampler) int
		chance func(float64) float64
		most   int
	}{
		{"poisson 0.3", func(s Sampler) int { return s.Poisson(0.3) }, poisson(0.3), 20},
		{"poisson 9.5", func(s Sampler) int { return s.Poisson(9.5) }, poisson(9.5), 60},
		{"poisson 12", func(s Sampler) int { return s.Poisson(12) }, poisson(12), 60},
		{"poisson 800", func(s Sampler) int { return s.Poisson(800) }, poisson(800), 1200},
		{"binomial 5 0.2", func(s Sampler) int { return s.Binomial(5, 0.2) }, binomial(5, 0.2), 5},
		{"binomial 7500 0.001", func(s Sampler) int { return s.Binomial(7500, 0.001) }, binomial(7500, 0.001), 40},
		{"binomial 7500 0.01", func(s Sampler) int { return s.Binomial(7500, 0.01) }, binomial(7500, 0.01), 200},
		{"binomial 60 0.5", func(s Sampler) int { return s.Binomial(60, 0.5) }, binomial(60, 0.5), 60},
		{"binomial 300 0.9", func(s Sampler) int { return s.Binomial(300, 0.9) }, binomial(300, 0.9), 300},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			random := NewSampler(uint64(i), 3)
			seen := make([]float64, c.most+1)
			for range draws {
				seen[min(c.draw(random), c.most)]++
			}
			chi, freedom, restSeen, restWant := 0.0, -1.0, 0.0, 0.0
			for k, n := range seen {
				want := draws * c.chance(float64(k))
				if want < 5 {
					restSeen, restWant = restSeen+n, restWant+want
					continue
				}
				chi += (n - want) * (n - want) / want
				freedom++
			}
			if restWant >= 5 {
				chi += (restSeen - restWant) * (restSeen - restWant) / restWant
				freedom++
			}
			require.Less(t, chi, freedom+5*math.Sqrt(2*freedom)+5, fmt.Sprint(freedom))
		})
	}
	random := NewSampler(1, 1)
	require.Zero(t, random.Poisson(0))
	require.Zero(t, random.Binomial(0, 0.5))
	require.Zero(t, random.Binomial(9, 0))
	require.Equal(t, 9, random.Binomial(9, 1))
}

func TestLatencies(t *testing.T) {
	usual := latency{Shape: usualShape(), slowness: 1}
	require.InDelta(t, 0.5, usual.over(0.060), 1e-9)
	require.InDelta(t, 0.01, usual.over(0.306), 1e-4)
	require.InDelta(t, usual.over(0.1), latency{Shape: usualShape(), slowness: 2}.over(0.2), 1e-12)
	require.InDelta(t, usual.over(0.5)*0.985+0.015, latency{Shape: usualShape(), slowness: 1, stall: 0.015}.over(0.5), 1e-12)
	for _, shape := range []latency{usual, {Shape: Shape{Median: 0.060, HeavyTail: true}, slowness: 1.5, stall: 0.1}} {
		before := 1.0
		for _, edge := range histogramEdges() {
			require.LessOrEqual(t, shape.over(edge), before)
			before = shape.over(edge)
		}
	}
}
