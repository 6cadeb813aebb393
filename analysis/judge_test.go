// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	usual = Objectives{SuccessRate: 99, LatencyQuantile: 0.99, LatencyLimit: 500 * time.Millisecond}
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
		name       string
		objectives Objectives
		step       Step
		rounds     []Round
		late       time.Duration // after the last round
		verdict    Verdict
		reason     string
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
			reason: "14 of 70 requests failed (20 %), 0 of 1330 on stable (0 %) at weight 5 %: at least 26 times stable, 1.5 times is allowed; chance of a false alarm < 1 in 400; 7s since the step began",
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
			rounds: steady(3, Counts{Requests: 10, Errors: 5}, Counts{Requests: 190}),
			reason: "suspicious: 15 of 30 requests failed (50 %), 0 of 570 on stable (0 %); evidence against the canary 36, 400 rolls back",
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
			objectives: Objectives{SuccessRate: 99, LatencyQuantile: 0.99, LatencyLimit: 450 * time.Millisecond},
			rounds:     steady(20, Counts{Requests: 10, Slow: 3}, Counts{Requests: 190}),
			reason:     "took over 400ms (the stricter edge for 450ms)",
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
			name: "weight above 100", step: Step{StartedAt: start, Weight: 101}, rounds: good, verdict: VerdictHold,
			reason: "the step's weight of 101 % is not between 1 and 100; nothing was decided",
		},
		{
			name: "success rate of 100 %", step: first, rounds: good, verdict: VerdictHold, objectives: Objectives{SuccessRate: 100},
			reason: "the success rate 100 is no percentage above 0 and below 100; nothing was decided",
		},
		{
			name: "latency limit below every edge", step: first, rounds: good, verdict: VerdictHold,
			objectives: Objectives{SuccessRate: 99, LatencyQuantile: 0.99, LatencyLimit: time.Microsecond},
			reason:     "the latency limit 1µs is below the lowest bucket edge of 1ms; nothing was decided",
		},
		{
			name: "latency quantile of 1", step: first, rounds: good, verdict: VerdictHold,
			objectives: Objectives{SuccessRate: 99, LatencyQuantile: 1, LatencyLimit: time.Second},
			reason:     "the latency quantile 1 is not above 0 and below 1; nothing was decided",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			objectives := c.objectives
			if objectives == (Objectives{}) {
				objectives = usual
			}
			now := start
			if len(c.rounds) > 0 {
				now = c.rounds[len(c.rounds)-1].End.Add(c.late)
			}
			judgement := Judge(objectives, c.step, c.rounds, now)
			require.Equal(t, c.verdict, judgement.Verdict, judgement.Reason)
			require.Contains(t, judgement.Reason, c.reason)
			require.NotContains(t, judgement.Reason, "\n")
		})
	}
}

func TestJudgeIsPure(t *testing.T) {
	rounds := steady(20, Counts{Requests: 10, Errors: 1, Slow: 1}, Counts{Requests: 190})
	before := append([]Round(nil), rounds...)
	now := start.Add(20 * time.Second)
	require.Equal(t, Judge(usual, first, rounds, now), Judge(usual, first, rounds, now))
	require.Equal(t, before, rounds)
}

func TestJudgeSumsUp(t *testing.T) {
	judgement := Judge(usual, first, steady(3, Counts{10, 2, 1}, Counts{190, 1, 3}), start)
	require.Equal(t, Counts{30, 6, 3}, judgement.Canary)
	require.Equal(t, Counts{570, 3, 9}, judgement.Stable)
}

// However bad it is, no single round fails a canary.
func TestJudgeNeedsTwoRounds(t *testing.T) {
	rounds := steady(1, Counts{Requests: 1_000_000, Errors: 1_000_000, Slow: 1_000_000}, Counts{Requests: 19_000_000})
	rounds[1].End = start.Add(time.Minute)
	require.NotEqual(t, VerdictFail, Judge(usual, first, rounds, rounds[1].End).Verdict)
}

// Counts that contradict themselves must not break the arithmetic.
func FuzzJudge(f *testing.F) {
	f.Add(uint64(10), uint64(2), uint64(1), uint64(190), uint64(1), uint64(0), int64(1000), int32(5), int32(25), 99.0)
	f.Add(uint64(0), uint64(7), uint64(0), uint64(0), uint64(9), uint64(9), int64(0), int32(100), int32(0), 0.001)
	f.Add(uint64(1)<<63, uint64(1)<<63, uint64(3), uint64(5), uint64(0), uint64(0), int64(-5), int32(-5), int32(500), 99.9999)
	f.Fuzz(func(t *testing.T, n, e, s, m, x, y uint64, gap int64, weight, next int32, success float64) {
		rounds := steady(12, Counts{n, e, s}, Counts{m, x, y})
		for i := range rounds {
			rounds[i].End = start.Add(time.Duration(i) * time.Duration(gap) * time.Millisecond)
		}
		step := Step{StartedAt: start, Hold: time.Second, Weight: weight, NextWeight: next}
		objectives := Objectives{SuccessRate: success, LatencyQuantile: 0.99, LatencyLimit: time.Second}
		judgement := Judge(objectives, step, rounds, start.Add(12*time.Second))
		require.Contains(t, []Verdict{VerdictPass, VerdictFail, VerdictWait, VerdictHold}, judgement.Verdict)
		require.NotContains(t, judgement.Reason, "NaN")
		if min(e, n)+min(s, n) == 0 {
			require.NotEqual(t, VerdictFail, judgement.Verdict)
		}
	})
}

func shifted(by time.Duration, rounds []Round) []Round {
	for i := range rounds {
		rounds[i].End = rounds[i].End.Add(by)
	}
	return rounds
}

func every(length time.Duration, rounds []Round) []Round {
	for i := range rounds {
		rounds[i].End = start.Add(time.Duration(i) * length)
	}
	return rounds
}
