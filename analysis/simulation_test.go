// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// world draws rounds of a workload with known rates.
type world struct {
	random   *rand.Rand
	requests float64 // per second, both revisions
	scrape   time.Duration
	// rates of bad requests at a time since the run's start.
	canaryErrors, stableErrors, canarySlow, stableSlow func(since time.Duration) float64
}

func always(rate float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return rate }
}

func outage(usual, during float64) func(time.Duration) float64 {
	return func(since time.Duration) float64 {
		if since > 8*time.Second && since < 68*time.Second {
			return during
		}
		return usual
	}
}

func (w *world) counts(requests, errors, slow float64) Counts {
	whole := uint64(requests)
	if w.random.Float64() < requests-float64(whole) {
		whole++
	}
	counts := Counts{Requests: whole}
	for range whole {
		if w.random.Float64() < errors {
			counts.Errors++
		}
		if w.random.Float64() < slow {
			counts.Slow++
		}
	}
	return counts
}

func (w *world) round(since time.Duration, weight float64) Round {
	all := w.requests * w.scrape.Seconds() * (0.8 + 0.4*w.random.Float64())
	return Round{
		End:    start.Add(since),
		Canary: w.counts(all*weight, w.canaryErrors(since), w.canarySlow(since)),
		Stable: w.counts(all*(1-weight), w.stableErrors(since), w.stableSlow(since)),
	}
}

// walk takes the run through its steps as the controller does, judging after every round, until it is
// promoted, fails or runs out of time.
func (w *world) walk(objectives Objectives, holds, limit time.Duration) (verdict Verdict, took time.Duration, weight int32) {
	weights := []int32{5, 25, 50, 100}
	rounds := []Round{{End: start}}
	began := time.Duration(0)
	for since := w.scrape; since <= limit; since += w.scrape {
		step := Step{StartedAt: start.Add(began), Hold: holds, Weight: weights[0], NextWeight: 100}
		if len(weights) > 1 {
			step.NextWeight = weights[1]
		}
		rounds = append(rounds, w.round(since, float64(weights[0])/100))
		judgement := Judge(objectives, step, rounds, start.Add(since))
		switch judgement.Verdict {
		case VerdictFail:
			return VerdictFail, since, weights[0]
		case VerdictPass:
			if began, weights = since, weights[1:]; len(weights) == 0 {
				return VerdictPass, since, 100
			}
		}
	}
	return VerdictHold, limit, weights[0]
}

func TestGoodCanariesAreNotRolledBack(t *testing.T) {
	cases := []struct {
		name           string
		runs           int
		requests, rate float64
		success        float64
		promoted       float64 // at least this share, within 60 s
	}{
		{"0.1 % errors at 200 requests/s", 1_000, 200, 0.001, 99, 0.99},
		{"1 % errors at 200 requests/s", 1_000, 200, 0.01, 95, 0.99},
		{"1 % errors at 50 requests/s, at the objective", 200, 50, 0.01, 99, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			failed, promoted := 0, 0
			for seed := range uint64(c.runs) {
				w := &world{
					random: rand.New(rand.NewPCG(seed, 1)), requests: c.requests, scrape: 2 * time.Second,
					canaryErrors: always(c.rate), stableErrors: always(c.rate),
					canarySlow: always(0.001), stableSlow: always(0.001),
				}
				objectives := usual
				objectives.SuccessRate = c.success
				switch verdict, _, _ := w.walk(objectives, 5*time.Second, time.Minute); verdict {
				case VerdictFail:
					failed++
				case VerdictPass:
					promoted++
				}
			}
			t.Logf("%d of %d failed, %d promoted", failed, c.runs, promoted)
			require.LessOrEqual(t, failed, c.runs/100)
			require.GreaterOrEqual(t, float64(promoted), c.promoted*float64(c.runs))
		})
	}
}

func TestBadCanariesAreCaughtAtTheFirstWeight(t *testing.T) {
	const runs = 100
	cases := []struct {
		name     string
		requests float64
		scrape   time.Duration
		errors   float64
		within   time.Duration
	}{
		{"20 % errors, 10 requests/s on the canary", 200, time.Second, 0.2, 12 * time.Second},
		{"50 % errors, 50 requests/s on the canary", 1000, time.Second, 0.5, 6 * time.Second},
		{"20 % errors, scraped every 15 s", 200, 15 * time.Second, 0.2, 30 * time.Second},
		{"50 % errors, 1 request/s on the canary", 20, time.Second, 0.5, 30 * time.Second},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inTime := 0
			for seed := range uint64(runs) {
				w := &world{
					random: rand.New(rand.NewPCG(seed, 2)), requests: c.requests, scrape: c.scrape,
					canaryErrors: always(0.001 + c.errors), stableErrors: always(0.001),
					canarySlow: always(0.001), stableSlow: always(0.001),
				}
				verdict, took, weight := w.walk(usual, 5*time.Second, 5*time.Minute)
				require.Equal(t, VerdictFail, verdict)
				require.Equal(t, int32(5), weight)
				if took <= c.within {
					inTime++
				}
			}
			t.Logf("%d of %d within %v", inTime, runs, c.within)
			require.GreaterOrEqual(t, inTime, runs*95/100)
		})
	}
}

func TestSlowCanaryIsCaughtAtTheFirstWeight(t *testing.T) {
	for seed := range uint64(100) {
		w := &world{
			random: rand.New(rand.NewPCG(seed, 3)), requests: 200, scrape: time.Second,
			canaryErrors: always(0), stableErrors: always(0), canarySlow: always(0.3), stableSlow: always(0.002),
		}
		verdict, took, weight := w.walk(usual, 5*time.Second, 5*time.Minute)
		require.Equal(t, VerdictFail, verdict)
		require.Equal(t, int32(5), weight)
		require.LessOrEqual(t, took, 50*time.Second)
	}
}

// A fault of something that both revisions need stops the run and takes nothing back.
func TestSharedOutageHolds(t *testing.T) {
	const runs = 100
	failed, promoted := 0, 0
	for seed := range uint64(runs) {
		w := &world{
			random: rand.New(rand.NewPCG(seed, 4)), requests: 200, scrape: 2 * time.Second,
			canaryErrors: outage(0.001, 0.2), stableErrors: outage(0.001, 0.2),
			canarySlow: always(0.001), stableSlow: always(0.001),
		}
		switch verdict, _, _ := w.walk(usual, 10*time.Second, 66*time.Second); verdict {
		case VerdictFail:
			failed++
		case VerdictPass:
			promoted++
		}
	}
	t.Logf("%d of %d failed, %d promoted", failed, runs, promoted)
	require.LessOrEqual(t, failed, runs*5/100)
	require.Zero(t, promoted)
}
