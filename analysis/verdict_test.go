// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	first = Step{StartedAt: start, Hold: 5 * time.Second, Weight: 5, NextWeight: 25}
)

// steady is n rounds, one a second, the first of which ends when the step starts.
func steady(n int, canary, stable Counts) []Round {
	rounds := []Round{{End: start}}
	for i := range n {
		rounds = append(rounds, Round{End: start.Add(time.Duration(i+1) * time.Second), Canary: canary, Stable: stable})
	}
	return rounds
}

func TestJudge(t *testing.T) {
	last := Step{StartedAt: start, Hold: 5 * time.Second, Weight: 100, NextWeight: 100}
	good := steady(20, Counts{Requests: 10}, Counts{Requests: 190})
	cases := []struct {
		name    string
		change  func(*Config)
		step    Step
		rounds  []Round
		late    time.Duration // after the last round
		verdict Verdict
		reason  string
	}{
		{
			name: "no rounds", step: first, verdict: VerdictHold,
			reason: "no complete round of samples from both revisions yet; nothing was decided",
		},
		{
			name: "good, hold not over", step: first, rounds: good[:4], verdict: VerdictWait,
			reason: "0 of 30 requests failed (0 %), 0 of 570 on stable (0 %); the step's hold ends in 2s",
		},
		{
			name: "good, hold over, more requests needed", step: first, rounds: good[:9], verdict: VerdictWait,
			reason: "not enough evidence yet: 0 of 80 requests failed (0 %), 0 of 1520 on stable (0 %); 4 points more than stable not ruled out; waits for requests, until 2026-03-01T12:10:00Z",
		},
		{
			name: "good", step: first, rounds: good, verdict: VerdictPass,
			reason: "5 -> 25 %: 0 of 200 requests failed (0 %), 0 of 3800 on stable (0 %); more than +1.8 points ruled out (95 %)",
		},
		{
			name: "weight not acknowledged", step: Step{Hold: 5 * time.Second, Weight: 5, NextWeight: 25}, rounds: good, verdict: VerdictWait,
			reason: "the proxies have not acknowledged the step's weight yet",
		},
		{
			name: "last step has nothing to compare with", step: last, verdict: VerdictPass,
			rounds: steady(6, Counts{Requests: 200}, Counts{}),
			reason: "at 100 %: 0 of 1200 requests failed (0 %), 0 of 0 on stable (-); more than 1 % ruled out (95 %)",
		},
		{
			name: "last step fails by the objective alone", step: last, verdict: VerdictFail,
			rounds: steady(8, Counts{Requests: 200, Errors: 20}, Counts{}),
			reason: "160 of 1600 requests failed (10 %), 0 of 0 on stable (-) at weight 100 %: the objective of 99 % success is broken and there is no stable to compare with; chance of a false alarm < 1 in 400; 8s since the step began",
		},
		{
			name: "20 % errors", step: first, verdict: VerdictFail,
			rounds: steady(7, Counts{Requests: 10, Errors: 2}, Counts{Requests: 190}),
			reason: "14 of 70 requests failed (20 %), 0 of 1330 on stable (0 %) at weight 5 %: at least 20 times stable, 1.5 times is allowed; chance of a false alarm < 1 in 400; 7s since the step began",
		},
		{
			name: "one bad scrape", step: first, verdict: VerdictWait,
			rounds: append(steady(3, Counts{Requests: 10}, Counts{Requests: 190}),
				Round{End: start.Add(4 * time.Second), Canary: Counts{Requests: 10, Errors: 10}, Stable: Counts{Requests: 190}},
				Round{End: start.Add(6 * time.Second), Canary: Counts{Requests: 10}, Stable: Counts{Requests: 190}}),
			reason: "not enough evidence yet: 10 of 50 requests failed (20 %)",
		},
		{
			name: "bad for three scrapes", step: first, verdict: VerdictHold,
			rounds: steady(3, Counts{Requests: 10, Errors: 2}, Counts{Requests: 190}),
			reason: "suspicious: 6 of 30 requests failed (20 %), 0 of 570 on stable (0 %); evidence against the canary 36, 400 rolls back",
		},
		{
			name: "disaster", step: first, verdict: VerdictFail,
			rounds: steady(2, Counts{Requests: 10, Errors: 5}, Counts{Requests: 190}),
			reason: "10 of 20 requests failed (50 %), 0 of 380 on stable (0 %) at weight 5 %: at least 13 times stable",
		},
		{
			name: "shared outage", step: first, verdict: VerdictHold,
			rounds: steady(60, Counts{Requests: 10, Errors: 1}, Counts{Requests: 190, Errors: 19}),
			reason: "both revisions break the objective of 99 % success; not the canary: 60 of 600 requests failed (10 %), 1140 of 11400 on stable (10 %)",
		},
		{
			name: "slow while cold", step: first, verdict: VerdictWait,
			rounds: steady(20, Counts{Requests: 10, Slow: 3}, Counts{Requests: 190}),
			reason: "not enough evidence yet: 60 of 200 requests took over 500ms (30 %), 0 of 3800 on stable (0 %); 4 points more than stable not ruled out; waits for requests, until 2026-03-01T12:10:00Z",
		},
		{
			name: "slow when warm", step: first, verdict: VerdictFail,
			rounds: steady(50, Counts{Requests: 10, Slow: 3}, Counts{Requests: 190, Slow: 1}),
			reason: "150 of 500 requests took over 500ms (30 %), 50 of 9500 on stable (0.53 %) at weight 5 %: at least 20 times stable, 1.5 times is allowed; chance of a false alarm < 1 in 400; 50s since the step began",
		},
		{
			name: "slow at first, then good", step: first, verdict: VerdictPass,
			rounds: append(steady(31, Counts{Requests: 10, Slow: 3}, Counts{Requests: 190}),
				shifted(31*time.Second, steady(20, Counts{Requests: 10}, Counts{Requests: 190})[1:])...),
			reason: "5 -> 25 %",
		},
		{
			name: "limit between two edges", step: first, verdict: VerdictWait,
			change: func(c *Config) { c.Objectives.LatencyLimit = 450 * time.Millisecond },
			rounds: steady(20, Counts{Requests: 10, Slow: 3}, Counts{Requests: 190}),
			reason: "took over 400ms (the stricter edge for 450ms)",
		},
		{
			name: "samples end", step: first, rounds: good, late: time.Minute + 30*time.Second, verdict: VerdictHold,
			reason: "no complete round of samples for 1m30s; nothing was decided",
		},
		{
			name: "canary gets nothing", step: first, verdict: VerdictHold,
			rounds: steady(20, Counts{}, Counts{Requests: 200}),
			reason: "the canary answered no request in the 20s since weight 5 %; nothing was decided",
		},
		{
			name: "no requests at all", step: first, verdict: VerdictHold, rounds: steady(20, Counts{}, Counts{}),
			reason: "the canary answered no request in the 20s since weight 5 %; nothing was decided",
		},
		{
			name: "few requests wait", step: first, verdict: VerdictWait,
			rounds: every(time.Minute, steady(9, Counts{Requests: 2}, Counts{Requests: 40})),
			reason: "not enough evidence yet",
		},
		{
			name: "few requests at the step's maximum", step: first, verdict: VerdictPass,
			rounds: every(time.Minute, steady(11, Counts{Requests: 2}, Counts{Requests: 40})),
			reason: "low evidence, 5 -> 25 %: 0 of 22 requests failed (0 %), 0 of 440 on stable (0 %); more than +17 points ruled out (95 %)",
		},
		{
			name: "hardly any request at the step's maximum", step: first, verdict: VerdictWait,
			rounds: every(time.Minute, steady(11, Counts{Requests: 1}, Counts{Requests: 20})),
			reason: "not enough evidence yet",
		},
		{
			name: "hardly any request at the step's deadline", step: first, verdict: VerdictHold,
			rounds: every(time.Minute, steady(16, Counts{Requests: 1}, Counts{Requests: 20})),
			reason: "inconclusive at the step's deadline, it goes on: 0 of 16 requests failed (0 %), 0 of 320 on stable (0 %); 4 points more than stable not ruled out; 16 requests in the step, 20 are needed at least",
		},
		{
			name: "hardly any request at the step's deadline, advance", step: first, verdict: VerdictPass,
			change: func(c *Config) { c.OnInconclusive = PolicyAdvance },
			rounds: every(time.Minute, steady(16, Counts{Requests: 1}, Counts{Requests: 20})),
			reason: "inconclusive at the step's deadline, it is left",
		},
		{
			name: "no request at the step's deadline, rollback", step: first, verdict: VerdictFail,
			change: func(c *Config) { c.OnInconclusive = PolicyRollback },
			rounds: every(time.Minute, steady(16, Counts{}, Counts{Requests: 20})),
			reason: "inconclusive at the step's deadline, it is rolled back",
		},
		{
			name: "enough requests only after the deadline", step: first, verdict: VerdictPass,
			rounds: every(time.Minute, steady(21, Counts{Requests: 1}, Counts{Requests: 20})),
			reason: "low evidence, 5 -> 25 %: 0 of 21 requests failed",
		},
		{
			name: "time without data does not count", step: first, verdict: VerdictWait,
			rounds: append(every(time.Minute, steady(6, Counts{Requests: 3}, Counts{Requests: 60})),
				Round{End: start.Add(20 * time.Minute), Canary: Counts{Requests: 30}, Stable: Counts{Requests: 600}}),
			reason: "not enough evidence yet: 0 of 48 requests failed",
		},
		{
			name: "shared outage, rollback", step: first, verdict: VerdictFail,
			change: func(c *Config) { c.OnSharedBreach = PolicyRollback },
			rounds: steady(60, Counts{Requests: 10, Errors: 1}, Counts{Requests: 190, Errors: 19}),
			reason: "both revisions break the objective of 99 % success; not the canary",
		},
		{
			name: "compare off: the objective alone decides", step: first, verdict: VerdictFail,
			change: func(c *Config) { c.Compare = false },
			rounds: steady(60, Counts{Requests: 10, Errors: 1}, Counts{Requests: 190, Errors: 19}),
			reason: "the objective of 99 % success is broken and there is no stable to compare with",
		},
		{
			name: "compare off: worse than stable within the objective", step: first, verdict: VerdictPass,
			change: func(c *Config) { c.Compare, c.Objectives.SuccessRate = false, 90 },
			rounds: steady(60, Counts{Requests: 50, Errors: 3}, Counts{Requests: 190}),
			reason: "5 -> 25 %: 180 of 3000 requests failed (6 %), 0 of 11400 on stable (0 %); more than 10 % ruled out (95 %)",
		},
		{
			name: "every attempt finds no endpoint of the canary", step: first, verdict: VerdictFail,
			rounds: steady(8, Counts{Requests: 10, Errors: 10}, Counts{Requests: 190}),
			reason: "80 of 80 requests failed (100 %)",
		},
		{
			name: "cold pods' latencies do not count", step: first, verdict: VerdictPass,
			rounds: append(steady(35, Counts{Requests: 10}, Counts{Requests: 190}), coldRounds(20)...),
			reason: "5 -> 25 %",
		},
		{
			name: "slower at another edge", step: first, verdict: VerdictFail,
			rounds: edged(steady(60, Counts{Requests: 50, Over: [2]uint64{15}}, Counts{Requests: 950, Over: [2]uint64{95}})),
			reason: "900 of 3000 requests took over 100ms (30 %), 5700 of 57000 on stable (10 %) at weight 5 %: ",
		},
		{
			name: "custom pair", step: first, verdict: VerdictFail,
			change: func(c *Config) { c.Custom = []Custom{{Name: "orders", Objective: 95}} },
			rounds: ordered(steady(60, Counts{Requests: 10}, Counts{Requests: 190})),
			reason: "180 of 600 were bad orders (30 %), 570 of 11400 on stable (5 %) at weight 5 %: at least 3 times stable, 1.5 times is allowed; chance of a false alarm < 1 in 500",
		},
		{
			name: "range without a number", step: first, rounds: good, verdict: VerdictWait,
			change: func(c *Config) {
				least := 10.0
				c.Ranges = []Range{{Name: "queue", Min: &least, Failures: 1, Window: 1}}
			},
			reason: "no number for queue since the step began",
		},
		{
			name: "weight above 100", step: Step{StartedAt: start, Weight: 101}, rounds: good, verdict: VerdictHold,
			reason: "the step's weight of 101 % is not between 1 and 100; nothing was decided",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			config := Defaults()
			config.EvidenceSpan = 5 * time.Second
			if c.change != nil {
				c.change(&config)
			}
			now := start
			if len(c.rounds) > 0 {
				now = c.rounds[len(c.rounds)-1].End.Add(c.late)
			}
			judgement, err := Judge(config, start, []Step{c.step}, c.rounds, now)
			require.NoError(t, err)
			require.Equal(t, c.verdict, judgement.Verdict, judgement.Reason)
			require.Contains(t, judgement.Reason, c.reason)
			require.NotEmpty(t, judgement.Cause)
			require.NotContains(t, judgement.Reason, "\n")
		})
	}
}

func TestJudgeSumsUp(t *testing.T) {
	judgement, err := Judge(Defaults(), start, []Step{first},
		steady(3, Counts{Requests: 10, Errors: 2, Slow: 1}, Counts{Requests: 190, Errors: 1, Slow: 3}), start)
	require.NoError(t, err)
	require.Equal(t, Counts{Requests: 30, Errors: 6, Slow: 3}, judgement.Canary)
	require.Equal(t, Counts{Requests: 570, Errors: 3, Slow: 9}, judgement.Stable)
	require.Len(t, judgement.Evidence, 4)
}

// Counts that contradict themselves must not break the arithmetic.
func FuzzJudge(f *testing.F) {
	f.Add(uint64(10), uint64(2), uint64(1), uint64(190), uint64(1), uint64(0), int64(1000), int32(5), int32(25), 99.0)
	f.Add(uint64(0), uint64(7), uint64(0), uint64(0), uint64(9), uint64(9), int64(0), int32(100), int32(0), 0.001)
	f.Add(uint64(1)<<63, uint64(1)<<63, uint64(3), uint64(5), uint64(0), uint64(0), int64(-5), int32(-5), int32(500), 99.9999)
	f.Fuzz(func(t *testing.T, n, e, s, m, x, y uint64, gap int64, weight, next int32, success float64) {
		rounds := steady(12, Counts{Requests: n, Errors: e, Slow: s}, Counts{Requests: m, Errors: x, Slow: y})
		for i := range rounds {
			rounds[i].End = start.Add(time.Duration(i) * time.Duration(gap) * time.Millisecond)
			rounds[i].StablePods = []Counts{{Requests: m, Errors: x}, {Requests: n, Errors: y}}
		}
		config := Defaults()
		config.Objectives.SuccessRate = success
		step := Step{StartedAt: start, Hold: time.Second, Weight: weight, NextWeight: next}
		judgement, err := Judge(config, start, []Step{step}, rounds, start.Add(12*time.Second))
		if err != nil {
			return
		}
		require.Contains(t, []Verdict{VerdictPass, VerdictFail, VerdictWait, VerdictHold}, judgement.Verdict)
		require.NotContains(t, judgement.Reason, "NaN")
		if min(e, n)+min(s, n) == 0 {
			require.NotEqual(t, VerdictFail, judgement.Verdict)
		}
	})
}

func every(length time.Duration, rounds []Round) []Round {
	for i := range rounds {
		rounds[i].End = start.Add(time.Duration(i) * length)
	}
	return rounds
}

func shifted(by time.Duration, rounds []Round) []Round {
	for i := range rounds {
		rounds[i].End = rounds[i].End.Add(by)
	}
	return rounds
}

// coldRounds are slow only at pods that have just begun.
func coldRounds(n int) []Round {
	rounds := shifted(35*time.Second, steady(n, Counts{Requests: 10, Slow: 5}, Counts{Requests: 190})[1:])
	for i := range rounds {
		rounds[i].CanaryCold = Counts{Requests: 5, Slow: 5}
	}
	return rounds
}

func edged(rounds []Round) []Round {
	for i := range rounds {
		rounds[i].Edges = [2]time.Duration{100 * time.Millisecond}
	}
	return rounds
}

func ordered(rounds []Round) []Round {
	for i := range rounds[1:] {
		rounds[i+1].CanaryCustom = []Pair{{Total: 10, Good: 7}}
		rounds[i+1].StableCustom = []Pair{{Total: 190, Good: 180 + uint64(i%2)}}
	}
	return rounds
}
