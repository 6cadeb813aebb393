// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// draw is a binomial of few requests.
func draw(random *rand.Rand, n uint64, p float64) uint64 {
	bad := uint64(0)
	for range n {
		if random.Float64() < p {
			bad++
		}
	}
	return bad
}

// journey is a run of random rounds and steps, as a controller would see it.
func journey(random *rand.Rand) (Config, []Step, []Round) {
	config := Defaults()
	config.Steps = 1 + random.IntN(4)
	config.Custom = []Custom{{Name: "orders", Objective: 97}}
	least := 10.0
	config.Ranges = []Range{{Name: "queue", Min: &least, Failures: 2, Window: 3}}
	var steps []Step
	at := start
	for _, weight := range []int32{5, 25, 50, 100} {
		at = at.Add(time.Duration(random.IntN(900_000)) * time.Millisecond)
		steps = append(steps, Step{StartedAt: at, Hold: time.Minute, Weight: weight, NextWeight: min(100, weight*2)})
	}
	edges := [2]time.Duration{100 * time.Millisecond, time.Duration(random.IntN(2)) * time.Second}
	var rounds []Round
	counts := func(n uint64, p float64) Counts {
		return Counts{Requests: n, Errors: draw(random, n, p), Slow: draw(random, n, p), Over: [2]uint64{draw(random, n, p), draw(random, n, p)}}
	}
	for end := start; end.Before(at.Add(30 * time.Minute)); end = end.Add(time.Duration(5+random.IntN(30)) * time.Second) {
		canary := counts(uint64(random.IntN(20)), 0.05)
		pods := []Counts{counts(uint64(random.IntN(40)), 0.04), counts(uint64(random.IntN(40)), 0.08)}
		rounds = append(rounds, Round{
			End: end, Canary: canary, Stable: pods[0].plus(pods[1]), StablePods: pods, Edges: edges,
			CanaryCold:   Counts{Requests: canary.Requests / 3, Slow: canary.Slow / 3},
			CanaryCustom: []Pair{{Total: 10, Good: uint64(random.IntN(11))}}, StableCustom: []Pair{{Total: 90, Good: uint64(80 + random.IntN(11))}},
		})
	}
	return config, steps, rounds
}

// Replaying a run gives what looking at it bit by bit gave, even when the state went through storage
// on the way: one that was never told of a step before its first round, and one that was told at once.
func TestReplayIsIncremental(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 1))
		config, steps, rounds := journey(random)
		replayed, err := Begin(config, start)
		require.NoError(t, err)
		for _, step := range steps {
			replayed.Enter(step)
		}
		bitByBit, err := Begin(config, start)
		require.NoError(t, err)
		for i, round := range rounds {
			for len(steps) > 0 && !steps[0].StartedAt.After(round.End) {
				bitByBit.Enter(steps[0])
				steps = steps[1:]
			}
			value := Value{At: round.End, Number: float64(random.IntN(40))}
			replayed.Add(round)
			replayed.Observe(0, value)
			bitByBit.Add(Round{End: round.End.Add(-time.Second), Open: true, Canary: round.CanaryCold})
			bitByBit.Judge(round.End)
			bitByBit.Add(round)
			bitByBit.Observe(0, value)
			if random.IntN(8) == 0 {
				stored, err := json.Marshal(bitByBit.State())
				require.NoError(t, err)
				require.Less(t, len(stored), 64<<10)
				var state State
				require.NoError(t, json.Unmarshal(stored, &state))
				bitByBit, err = Resume(config, state)
				require.NoError(t, err)
			}
			if len(replayed.state.Pending) > len(steps) {
				continue // Not the same: one was told of a step that has not begun.
			}
			if i%5 == 0 {
				bitByBit.Add(round) // Known already.
			}
		}
		now := rounds[len(rounds)-1].End
		require.Equal(t, replayed.Judge(now), bitByBit.Judge(now))
		want, err := json.Marshal(replayed.State())
		require.NoError(t, err)
		got, err := json.Marshal(bitByBit.State())
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(got))
	}
}

func TestResumeRefusesOtherConfigurations(t *testing.T) {
	gate, err := Begin(Defaults(), start)
	require.NoError(t, err)
	config := Defaults()
	config.Objectives.SuccessRate = 98
	_, err = Resume(config, gate.State())
	require.ErrorIs(t, err, ErrOtherConfig)
	state := gate.State()
	state.Measures[1].Boundaries = nil
	_, err = Resume(Defaults(), state)
	require.ErrorIs(t, err, ErrOtherConfig)
}

func TestStateIsACopy(t *testing.T) {
	gate, err := Begin(Defaults(), start)
	require.NoError(t, err)
	before := gate.State()
	want, err := json.Marshal(before)
	require.NoError(t, err)
	gate.Enter(first)
	for _, round := range steady(100, Counts{Requests: 10, Errors: 1}, Counts{Requests: 90}) {
		gate.Add(round)
	}
	got, err := json.Marshal(before)
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(got))
}

// At the edge of the hypothesis every e-process keeps an expectation of at most 1, over two rounds
// with a start between them, whatever stable's rate is and however it changes.
func TestProcessesExpectation(t *testing.T) {
	const canary, stable, budget = 3, 3, 0.04
	config := Defaults()
	config.Objectives = Objectives{SuccessRate: 100 * (1 - budget)}
	step := Step{StartedAt: start, Weight: 50, NextWeight: 100}
	processes := []struct {
		name string
		rate func(stable float64) float64 // of the canary, at the edge
		log  func(m MeasureState, starts Starts) float64
	}{
		{"worse", func(p float64) float64 { return 1.5*p + budget*marginShare }, func(m MeasureState, _ Starts) float64 { return m.Worse.Full }},
		{"worse, capped", func(p float64) float64 { return 1.5*p + budget*marginShare }, func(m MeasureState, _ Starts) float64 { return m.Worse.Capped }},
		{"over", func(float64) float64 { return budget }, func(m MeasureState, _ Starts) float64 { return m.Over.Full }},
		{"blamed", func(p float64) float64 { return p }, func(m MeasureState, starts Starts) float64 { return starts.mixture(m.Blame, nil) }},
		{"better", func(p float64) float64 { return p + budget }, func(m MeasureState, _ Starts) float64 { return m.Run.better(budget) }},
		{"under", func(float64) float64 { return 2 * budget }, func(m MeasureState, _ Starts) float64 { return m.Run.under(2 * budget) }},
	}
	for _, rates := range [][2]float64{{0.05, 0.05}, {0.001, 0.3}, {0.4, 0.02}} {
		sums := make([]float64, len(processes))
		for code := range 256 {
			bad := [4]int{code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6}
			gate, err := Begin(config, start.Add(-time.Minute))
			require.NoError(t, err)
			gate.Enter(step)
			for i := range 2 {
				gate.Add(Round{
					End:    start.Add(time.Duration(i) * time.Minute),
					Canary: Counts{Requests: canary, Errors: uint64(bad[2*i])}, Stable: Counts{Requests: stable, Errors: uint64(bad[2*i+1])},
				})
			}
			m := gate.state.Measures[0]
			require.LessOrEqual(t, m.Worse.Capped, m.Worse.Full+1e-12)
			for i, process := range processes {
				chance := 1.0
				for round, rate := range rates {
					chance *= binomial(canary, bad[2*round], process.rate(rate)) * binomial(stable, bad[2*round+1], rate)
				}
				sums[i] += chance * math.Exp(process.log(m, gate.state.Starts))
			}
		}
		for i, process := range processes {
			require.LessOrEqual(t, sums[i], 1+1e-9, "%s at %v", process.name, rates)
			require.Greater(t, sums[i], 0.3, "%s at %v: the bets are worth making", process.name, rates)
		}
	}
}

func TestPriorsNeverExceedOne(t *testing.T) {
	gate, err := Begin(Defaults(), start)
	require.NoError(t, err)
	for i := range 500 {
		gate.state.start(i%3 == 0)
		sum := gate.state.Starts.Waiting
		for _, prior := range gate.state.Starts.Priors {
			sum += prior
		}
		require.LessOrEqual(t, sum, 1+1e-9)
		require.Positive(t, gate.state.Starts.Waiting)
		require.LessOrEqual(t, len(gate.state.Starts.Priors), 1+3+maximumExtras)
	}
	require.True(t, gate.state.consistent())
}

func TestEvidenceRisesWithBadRequestsOfTheCanary(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for range 20 {
		config, _, rounds := journey(random)
		rounds = rounds[:10]
		before := math.Inf(-1)
		for bad := range rounds[9].Canary.Requests + 1 {
			rounds[9].Canary.Errors = bad
			gate, err := Begin(config, start)
			require.NoError(t, err)
			for _, round := range rounds {
				gate.Add(round)
			}
			now := gate.state.Measures[0].Worse.Full
			require.Greater(t, now, before)
			before = now
		}
	}
}

// However bad it is and however long it took, no single round fails a canary, not even with all the
// suspicion that does not yet hold the run before it.
func TestNoSingleRoundFails(t *testing.T) {
	for _, requests := range []uint64{1, 1000, 1_000_000_000} {
		config := Defaults()
		config.EvidenceSpan = 0
		gate, err := Begin(config, start)
		require.NoError(t, err)
		gate.Enter(first)
		gate.Add(Round{End: start.Add(time.Hour), Canary: Counts{Requests: requests, Errors: requests, Slow: requests}, Stable: Counts{Requests: requests}})
		require.NotEqual(t, VerdictFail, gate.Judge(start.Add(time.Hour)).Verdict)
		for _, evidence := range gate.Judge(start.Add(time.Hour)).Evidence {
			require.LessOrEqual(t, evidence.Log10, evidence.Limit/2+1e-9)
		}
	}
}

// A broken objective need not wait for the pods of stable, but for two looks and for one whole round
// that puts the blame on the canary.
func TestOpenRounds(t *testing.T) {
	failing := Counts{Requests: 40, Errors: 20}
	open := Round{End: start.Add(22 * time.Second), Open: true, Canary: failing}
	gate, err := Begin(Defaults(), start)
	require.NoError(t, err)
	gate.Enter(first)
	gate.Add(Round{End: start.Add(14 * time.Second), Canary: failing, Stable: Counts{Requests: 760}})
	require.Equal(t, CauseSuspicious, gate.Judge(gate.state.End).Cause)
	before := gate.State()
	gate.Add(open)
	require.Equal(t, CauseObjective, gate.Judge(open.End).Cause)
	require.Equal(t, before, gate.State(), "what is not complete is not remembered")

	gate, err = Begin(Defaults(), start)
	require.NoError(t, err)
	gate.Enter(first)
	gate.Add(open)
	require.NotEqual(t, VerdictFail, gate.Judge(open.End).Verdict, "stable may fail as well")
}

// Evidence grows with the time that it is seen for, not with how often it is looked at.
func TestEvidenceSpan(t *testing.T) {
	for _, scrape := range []time.Duration{500 * time.Millisecond, time.Second, 5 * time.Second, 15 * time.Second, time.Minute} {
		gate, err := Begin(Defaults(), start)
		require.NoError(t, err)
		gate.Enter(first)
		end := start
		for gate.Judge(end).Verdict != VerdictFail {
			end = end.Add(scrape)
			gate.Add(Round{End: end, Canary: Counts{Requests: 100, Errors: 20}, Stable: Counts{Requests: 1900}})
		}
		require.Equal(t, max(15*time.Second, 2*scrape), end.Sub(start), "scraped every %v", scrape)
	}
}

// A disaster of the canary needs two rounds only; one of stable too, or of one pod of the canary, is
// not certain to be one of the revision, and needs the whole span.
func TestDisaster(t *testing.T) {
	failing, fine, all := Counts{Requests: 50, Errors: 40}, Counts{Requests: 50}, Counts{Requests: 100, Errors: 80}
	stable := Counts{Requests: 1900, Errors: 2}
	cases := []struct {
		name  string
		round Round
		fails int // after so many seconds; 0 is never
	}{
		{"of the revision", Round{Canary: all, Stable: stable}, 2},
		{"of all its pods", Round{Canary: all, Stable: stable, CanaryPods: []Counts{failing, failing}}, 2},
		{"with few requests", Round{Canary: Counts{Requests: 3, Errors: 2}, Stable: Counts{Requests: 60}}, 4},
		{"with few requests, of one of two pods", Round{Canary: Counts{Requests: 3, Errors: 2}, Stable: Counts{Requests: 60}, CanaryPods: []Counts{{Requests: 2, Errors: 2}, {Requests: 1}}}, 15},
		{"of one of two pods", Round{Canary: Counts{Requests: 100, Errors: 40}, Stable: stable, CanaryPods: []Counts{failing, fine}}, 15},
		{"of less than a quarter", Round{Canary: Counts{Requests: 100, Errors: 24}, Stable: stable}, 15},
		{"of stable too", Round{Canary: all, Stable: Counts{Requests: 1900, Errors: 1500}}, 0},
		{"without stable", Round{Canary: all}, 15},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			gate, err := Begin(Defaults(), start)
			require.NoError(t, err)
			gate.Enter(first)
			for second := 1; second <= 20; second++ {
				c.round.End = start.Add(time.Duration(second) * time.Second)
				gate.Add(c.round)
				if failed := gate.Judge(c.round.End).Verdict == VerdictFail; failed {
					require.Equal(t, c.fails, second)
					return
				}
			}
			require.Zero(t, c.fails)
		})
	}
}

// At weight 100 there is no stable to compare with. A canary that breaks an objective there is to blame
// only if it is worse than stable was in its worst minute, and always if it fails ten times what is allowed.
func TestBlameWithoutStable(t *testing.T) {
	cases := []struct {
		name          string
		before, after Counts // stable's by second before the last step, the canary's in it
		cause         Cause
	}{
		{"stable was clean", Counts{Requests: 190}, Counts{Requests: 200, Errors: 8}, CauseObjective},
		{"stable was as bad", Counts{Requests: 190, Errors: 6}, Counts{Requests: 200, Errors: 8}, CauseShared},
		{"stable was as bad, canary far worse", Counts{Requests: 190, Errors: 6}, Counts{Requests: 200, Errors: 18}, CauseObjective},
		{"stable was in an outage, canary is", Counts{Requests: 190, Errors: 100}, Counts{Requests: 200, Errors: 60}, CauseObjective},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			gate, err := Begin(Defaults(), start)
			require.NoError(t, err)
			gate.Add(Round{End: start.Add(-5 * time.Minute)})
			for second := -299; second <= 0; second++ {
				counts := Counts{Requests: 190}
				if second < -200 && second > -270 {
					counts = c.before
				}
				gate.Add(Round{End: start.Add(time.Duration(second) * time.Second), Stable: counts})
			}
			gate.Enter(Step{StartedAt: start, Weight: 100, NextWeight: 100, Hold: time.Hour})
			end := start
			for range 60 {
				end = end.Add(time.Second)
				gate.Add(Round{End: end, Canary: c.after})
			}
			require.Equal(t, c.cause, gate.Judge(end).Cause, gate.Judge(end).Reason)
		})
	}
}

// Two bad rounds with a good one between them are no disaster.
func TestDisasterEnds(t *testing.T) {
	gate, err := Begin(Defaults(), start)
	require.NoError(t, err)
	gate.Enter(first)
	for second, errors := range []uint64{80, 0, 80, 0, 80} {
		end := start.Add(time.Duration(second+1) * time.Second)
		gate.Add(Round{End: end, Canary: Counts{Requests: 100, Errors: errors}, Stable: Counts{Requests: 1900}})
		require.NotEqual(t, VerdictFail, gate.Judge(end).Verdict)
	}
}

// What moves both revisions alike is no evidence for either.
func TestCommonModeIsNoEvidence(t *testing.T) {
	const runs = 400
	crossed := 0
	for seed := range uint64(runs) {
		random := rand.New(rand.NewPCG(seed, 3))
		gate, err := Begin(Defaults(), start)
		require.NoError(t, err)
		gate.Enter(first)
		highest := math.Inf(-1)
		for i := range 60 {
			rate := 0.6 * random.Float64() * random.Float64() // the same for both, another each round
			gate.Add(Round{
				End:    start.Add(time.Duration(i+1) * 15 * time.Second),
				Canary: Counts{Requests: 20, Errors: draw(random, 20, rate)}, Stable: Counts{Requests: 380, Errors: draw(random, 380, rate)},
			})
			highest = math.Max(highest, gate.state.Measures[0].Worse.Full)
			require.NotEqual(t, CauseWorse, gate.Judge(gate.state.End).Cause)
		}
		if highest >= math.Log(100) {
			crossed++
		}
	}
	require.LessOrEqual(t, crossed, 4+6, "1 of 100 may cross 100, and chance")
}

// TestFalseRollbacks counts how often the run of a canary at the very edge of what is tolerated, in errors
// and in latency, is rolled back when one looks after every round: whoever stops at any time, for any
// reason, sees no more. SLUICE_NULL_RUNS sets how many runs there are of each level; make false-rollbacks
// takes 100,000.
func TestFalseRollbacks(t *testing.T) {
	runs := 400
	if text := os.Getenv("SLUICE_NULL_RUNS"); text != "" {
		var err error
		runs, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	for _, level := range []float64{Defaults().FalseRollback, 0.1} {
		failed := 0
		for seed := range uint64(runs) {
			if nullRunFails(t, seed, level) {
				failed++
			}
		}
		t.Logf("%d of %d runs rolled back at a level of %v", failed, runs, level)
		allowed := level * float64(runs)
		require.LessOrEqual(t, float64(failed), allowed+3*math.Sqrt(allowed), "level %v", level)
	}
}

// nullRunFails plays a run with rounds of a report's, of a quick and of a usual scrape's length, in which
// steps are left when the gate says so. What is bad drifts for both revisions.
func nullRunFails(t *testing.T, seed uint64, level float64) bool {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 4))
	config := Defaults()
	config.FalseRollback, config.Objectives.SuccessRate = level, 90
	gate, err := Begin(config, start)
	require.NoError(t, err)
	length := []time.Duration{time.Second, 5 * time.Second, 15 * time.Second}[seed%3]
	requests, rate := 1+random.IntN(200), 0.05*random.Float64()
	end := start
	for _, weight := range []float64{0.05, 0.25, 0.5} {
		gate.Enter(Step{StartedAt: end, Weight: int32(100 * weight), NextWeight: 100})
		for range 15 {
			end = end.Add(length)
			common := math.Min(0.05, rate*math.Exp(0.5*random.NormFloat64()))
			canary := draw(random, uint64(requests), weight)
			stable := uint64(requests) - canary
			gate.Add(Round{
				End: end, ColdKnown: true,
				Canary: Counts{
					Requests: canary, Errors: draw(random, canary, edgeOf(gate, 0, common)), Slow: draw(random, canary, edgeOf(gate, 1, common/10)),
				},
				Stable: Counts{Requests: stable, Errors: draw(random, stable, common), Slow: draw(random, stable, common/10)},
			})
			verdict := gate.Judge(end).Verdict
			if verdict == VerdictFail {
				return true
			}
			if verdict == VerdictPass {
				break
			}
		}
	}
	return false
}

// edgeOf is the canary's rate that one of a gate's measures just tolerates beside stable's.
func edgeOf(gate *Gate, measure int, stable float64) float64 {
	hypothesis := gate.measures[measure].tolerated(gate.config)
	return hypothesis.tolerance*stable + hypothesis.margin
}

func TestRanges(t *testing.T) {
	least, most := 10.0, 20.0
	config := Defaults()
	config.Ranges = []Range{{Name: "queue", Min: &least, Max: &most, Failures: 2, Window: 3}}
	cases := []struct {
		name    string
		numbers []float64
		verdict Verdict
		reason  string
	}{
		{"in range", []float64{10, 20, 15}, VerdictPass, "5 -> 25 %"},
		{"one of three out", []float64{9, 10, 11}, VerdictPass, "5 -> 25 %"},
		{"the last is out", []float64{10, 10, 9}, VerdictWait, "queue is 9, not from 10 to 20; 1 of the last 3 samples were out of range, 2 roll back"},
		{"two of three out", []float64{10, 21, 15, 9.5}, VerdictFail, "queue was 9.5, not from 10 to 20, in 2 of the last 3 samples; 1 is allowed"},
		{"no number is no failure", []float64{21, math.NaN(), math.NaN(), math.NaN()}, VerdictWait, "queue is 21"},
		{"infinite", []float64{math.Inf(1), math.Inf(1)}, VerdictFail, "queue was "},
		{"nothing", nil, VerdictWait, "no number for queue since the step began"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			gate, err := Begin(config, start)
			require.NoError(t, err)
			gate.Enter(first)
			for _, round := range steady(20, Counts{Requests: 10}, Counts{Requests: 190}) {
				gate.Add(round)
			}
			for i, number := range c.numbers {
				gate.Observe(0, Value{At: start.Add(time.Duration(i+1) * time.Second), Number: number})
			}
			_, err = json.Marshal(gate.State())
			require.NoError(t, err)
			judgement := gate.Judge(gate.state.End)
			require.Equal(t, c.verdict, judgement.Verdict, judgement.Reason)
			require.Contains(t, judgement.Reason, c.reason)
		})
	}
}

// Pods that fail in clusters say less than their counts, and a fault of all pods at once says nothing
// about how they differ.
func TestDispersion(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	factor := func(bad func(pod int) float64) float64 {
		var d Dispersion
		for range 100 {
			d.add(15*time.Second, []float64{bad(0), bad(1), bad(2)}, []float64{500, 500, 500})
		}
		return d.factor()
	}
	common := 0.0
	require.InDelta(t, 1, factor(func(int) float64 { return float64(draw(random, 500, 0.01)) }), 0)
	require.InDelta(t, 1, factor(func(pod int) float64 {
		if pod == 0 {
			common = 0.2 * random.Float64()
		}
		return float64(draw(random, 500, common))
	}), 0)
	require.InDelta(t, 5, factor(func(int) float64 { return 5 * float64(draw(random, 100, 0.01)) }), 1.5)
	require.InDelta(t, 1, (&Dispersion{}).factor(), 0)
}

// One pod of stable that was killed before the run is no reason to wait for more than usual.
func TestOneIncidentIsNoDispersion(t *testing.T) {
	for _, killed := range []uint64{0, 50} {
		gate, err := Begin(Defaults(), start)
		require.NoError(t, err)
		for i := -30; i < 0; i++ {
			pods := []Counts{{Requests: 60}, {Requests: 60}}
			if i == -10 {
				pods[0].Errors = killed
			}
			gate.Add(Round{End: start.Add(time.Duration(i) * time.Second), Stable: Counts{Requests: 120, Errors: killed}, StablePods: pods})
		}
		gate.Enter(Step{StartedAt: start, Weight: 50, NextWeight: 100, Hold: 3 * time.Second})
		for _, round := range every(time.Second, steady(60, Counts{Requests: 30}, Counts{Requests: 30})) {
			round.StablePods = []Counts{{Requests: 15}, {Requests: 15}}
			gate.Add(round)
		}
		judgement := gate.Judge(gate.state.End)
		require.Equal(t, VerdictPass, judgement.Verdict, "%d failed: %s", killed, judgement.Reason)
	}
}

func TestConfigProblems(t *testing.T) {
	inverted, low := 1.0, 2.0
	cases := map[string]func(*Config){
		"the success rate 100 is no percentage above 0 and below 100":     func(c *Config) { c.Objectives.SuccessRate = 100 },
		"the success rate NaN is no":                                      func(c *Config) { c.Objectives.SuccessRate = math.NaN() },
		"the latency limit 1µs is below the lowest bucket edge of 1ms":    func(c *Config) { c.Objectives.LatencyLimit = time.Microsecond },
		"the latency quantile 1 is not above 0 and below 1":               func(c *Config) { c.Objectives.LatencyQuantile = 1 },
		"the number of steps 0 is not from 1 to 1000":                     func(c *Config) { c.Steps = 0 },
		"the tolerance 0.5 is not from 1 to 100":                          func(c *Config) { c.Tolerance = 0.5 },
		"the probability of a false rollback 0 is not from 0.0001 to 0.2": func(c *Config) { c.FalseRollback = 0 },
		`on inconclusive "": write advance, hold or rollback`:             func(c *Config) { c.OnInconclusive = "" },
		`on a shared breach "advance": write hold or rollback`:            func(c *Config) { c.OnSharedBreach = PolicyAdvance },
		`the objective 0 of custom metric "orders" is no percentage`:      func(c *Config) { c.Custom = []Custom{{Name: "orders"}} },
		`the range of "queue" has neither min nor max`:                    func(c *Config) { c.Ranges = []Range{{Name: "queue", Failures: 1, Window: 1}} },
		`the range of "queue" from 2 to 1 is empty`: func(c *Config) {
			c.Ranges = []Range{{Name: "queue", Min: &low, Max: &inverted, Failures: 1, Window: 1}}
		},
		`the range of "queue" fails at 3 of 2 samples; write 1 of 1 up to 100 of 100`: func(c *Config) { c.Ranges = []Range{{Name: "queue", Min: &low, Failures: 3, Window: 2}} },
	}
	for want, change := range cases {
		config := Defaults()
		change(&config)
		_, err := Begin(config, start)
		require.ErrorContains(t, err, want)
		_, err = Judge(config, start, nil, nil, start)
		require.Error(t, err)
	}
}

// A long step starts to bet anew, so that a late fault is not outweighed by a clean past.
func TestLongStepsRestart(t *testing.T) {
	gate, err := Begin(Defaults(), start)
	require.NoError(t, err)
	gate.Enter(first)
	end := start
	for range 60 {
		end = end.Add(time.Minute)
		gate.Add(Round{End: end, Canary: Counts{Requests: 600}, Stable: Counts{Requests: 11400, Errors: 100}})
	}
	require.Equal(t, 11, gate.state.Step.Restarts)
	rounds := 0
	for gate.Judge(end).Verdict != VerdictFail {
		end = end.Add(time.Minute)
		gate.Add(Round{End: end, Canary: Counts{Requests: 600, Errors: 60}, Stable: Counts{Requests: 11400, Errors: 100}})
		rounds++
	}
	require.LessOrEqual(t, rounds, 3, fmt.Sprint(gate.Judge(end).Reason))
}

func BenchmarkAdd(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	config, steps, rounds := journey(random)
	b.ReportAllocs()
	added := 0
	for added < b.N {
		gate, err := Begin(config, start)
		require.NoError(b, err)
		for _, step := range steps {
			gate.Enter(step)
		}
		for _, round := range rounds {
			gate.Add(round)
			added++
		}
	}
}

// Rounds of a second do not make a canary with few requests wait for more failures than rounds of a scrape do.
func TestQuietCanaryInShortRounds(t *testing.T) {
	failures := func(length time.Duration) (failures int) {
		gate, err := Begin(Defaults(), start)
		require.NoError(t, err)
		gate.Enter(Step{StartedAt: start, Hold: time.Minute, Weight: 5, NextWeight: 10})
		every := 15 * time.Second
		for at := length; at < time.Hour; at += length {
			round := Round{End: start.Add(at), Stable: Counts{Requests: uint64(20 * length / time.Second)}}
			if at%every == 0 {
				round.Canary = Counts{Requests: 1, Errors: 1}
				failures++
			}
			gate.Add(round)
			if gate.Judge(round.End).Verdict == VerdictFail {
				return failures
			}
		}
		return failures
	}
	scraped, reported := failures(15*time.Second), failures(time.Second)
	require.Less(t, scraped, 8)
	require.InDelta(t, scraped, reported, 1)
}

// What comes late is never more than was seen, and never more in a round than a round may grow: the bound on
// false rollbacks and the evidence span hold.
func TestLateEvidence(t *testing.T) {
	gate, err := Begin(Defaults(), start)
	require.NoError(t, err)
	random := rand.New(rand.NewPCG(9, 9))
	for _, length := range []time.Duration{time.Second, 5 * time.Second, 15 * time.Second} {
		for range 100 {
			most := gate.growth(length)
			evidence, full, late := LogEvidence{}, 0.0, 0.0
			for range 200 {
				full += 8*random.Float64()*math.Round(random.Float64()) - 2
				before := evidence.Capped
				evidence.grow(full, most)
				require.LessOrEqual(t, evidence.Capped-before, most.now+1e-12)
				require.LessOrEqual(t, evidence.Capped+evidence.Late, full+1e-9)
				require.InDelta(t, full, evidence.Full, 0)
				late = max(late, evidence.Late)
			}
			require.LessOrEqual(t, late, lateShare*gate.config.decisive())
			require.Equal(t, length < 7500*time.Millisecond, late > 0, "rounds of half a span have nothing to make up for")
		}
	}
}
