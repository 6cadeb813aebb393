// SPDX-License-Identifier: Apache-2.0

package simulation

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

// Outcome is how one run ended.
type Outcome struct {
	// Promoted or rolled back, at so many seconds; neither if the run went on to the horizon.
	Promoted, RolledBack bool
	Took                 float64
	// Bad requests of the canary until then.
	Bad float64
	// Low: a step was left with low evidence, so the promotion promises nothing.
	Low bool
	// Left are the seconds at which steps were left for the next or as promoted.
	Left []float64
	// Reason of the gate's last verdict.
	Reason string
}

// Rule decides about one run of a scenario.
type Rule struct {
	Name string
	Run  func(s Scenario, seed uint64) Outcome
}

func (w *world) ended(outcome Outcome) Outcome {
	outcome.Took, outcome.Bad, outcome.Left = w.now, w.harm(), w.shifts[1:]
	if outcome.Promoted {
		outcome.Left = append(outcome.Left, w.now)
	}
	return outcome
}

// GateOptions change how the gate is set up.
type GateOptions struct {
	Vantage Vantage
	// Interval between two judgements in seconds.
	Interval float64
	// Change the configuration.
	Change func(*analysis.Config)
	// LateBirth loses the first sample of each series; NoPods hides how stable's pods differ.
	LateBirth, NoPods bool
}

// Gate is the gate that ships, over rounds that are read as in production.
func Gate(name string, plan Plan, options GateOptions) Rule {
	if options.Change != nil {
		options.Change(&plan.Config)
	}
	return Rule{Name: name, Run: func(s Scenario, seed uint64) Outcome { return runGate(s, seed, plan, options) }}
}

func runGate(s Scenario, seed uint64, plan Plan, options GateOptions) Outcome {
	limit := plan.judgedEdge()
	w := newWorld(s, options.Vantage, seed, gateEdges(s, plan.Histogram, limit), limit)
	v := newView(w, limit)
	v.lateBirth = options.LateBirth
	w.advance(0)
	gate, err := analysis.Begin(plan.Config, epoch())
	if err != nil {
		panic(err) // Validate was not asked
	}
	run := &gateRun{world: w, gate: gate, plan: plan, options: options}
	run.enter(0)
	for horizon := plan.horizon(); w.now < horizon; {
		w.advance(w.now + options.Interval)
		if w.down(w.now) {
			continue // the source answers with an error: hold
		}
		if outcome, over := run.look(v); over {
			outcome.Reason = run.reason
			return w.ended(outcome)
		}
	}
	return w.ended(Outcome{Reason: run.reason})
}

type gateRun struct {
	world   *world
	gate    *analysis.Gate
	plan    Plan
	options GateOptions
	step    int
	entered float64
	read    time.Time
	low     bool
	reason  string
}

func (r *gateRun) enter(step int) {
	r.step, r.entered = step, r.world.now
	r.world.shift(r.plan.Steps[step].Weight)
	r.gate.Enter(r.plan.gateStep(step, at(r.world.now)))
}

func (r *gateRun) look(source analysis.Source) (Outcome, bool) {
	rounds, err := source.Rounds(context.Background(), analysis.Query{Since: r.read})
	if err != nil {
		return Outcome{}, false
	}
	for _, round := range rounds {
		if r.options.NoPods {
			round.StablePods = nil
		}
		r.gate.Add(round)
		if !round.Open {
			r.read = round.End
		}
	}
	judgement := r.gate.Judge(at(r.world.now))
	r.reason = judgement.Reason
	switch judgement.Verdict {
	case analysis.VerdictFail:
		return Outcome{RolledBack: true}, true
	case analysis.VerdictPass:
		return r.pass(judgement.Cause != analysis.CauseEvidence)
	case analysis.VerdictWait, analysis.VerdictHold:
	}
	limit := r.plan.Steps[r.step].Hold + r.plan.MaximumHold
	switch over := r.plan.MaximumHold > 0 && r.world.now-r.entered >= limit.Seconds(); {
	case over && r.plan.OnInconclusive == analysis.PolicyRollback:
		return Outcome{RolledBack: true}, true
	case over && r.plan.OnInconclusive == analysis.PolicyAdvance:
		return r.pass(true)
	}
	return Outcome{}, false
}

// pass leaves the step.
func (r *gateRun) pass(low bool) (Outcome, bool) {
	r.low = r.low || low
	if r.step+1 == len(r.plan.Steps) {
		return Outcome{Promoted: true, Low: r.low}, true
	}
	r.enter(r.step + 1)
	return Outcome{}, false
}

// peer makes a world for a rule that asks for windows of each revision.
func peer(s Scenario, seed uint64, plan Plan) *world {
	limit := plan.judgedEdge()
	edges := append(histogramEdges(), limit.Seconds())
	slices.Sort(edges)
	w := newWorld(s, Vantage{Scrape: 15}, seed, slices.Compact(edges), limit)
	w.keep = true
	w.advance(0)
	w.shift(plan.Steps[0].Weight)
	return w
}

// healthy: the objectives hold. NaN is neither true nor false.
func healthy(t tally, edges []float64, objectives analysis.Objectives) (success, fast, known bool) {
	rate, slowest := t.success(), t.quantile(objectives.LatencyQuantile, edges)
	return rate >= objectives.SuccessRate/100, slowest <= objectives.LatencyLimit.Seconds(), !math.IsNaN(rate)
}

// Flagger looks every interval at both metrics over a window of that length; whatever is not in range, and no
// data, counts as failed; when the threshold was reached, the next tick rolls back.
func Flagger(name string, plan Plan, interval float64) Rule {
	const threshold = 5
	steps, horizon := plan.below(), plan.horizon()
	return Rule{Name: name, Run: func(s Scenario, seed uint64) Outcome {
		w := peer(s, seed, plan)
		failed, step := 0, 0
		for w.now < horizon {
			w.advance(w.now + interval)
			if failed >= threshold {
				return w.ended(Outcome{RolledBack: true})
			}
			success, fast, known := healthy(w.growth(true, w.now-interval, w.now), w.edges, plan.Config.Objectives)
			if !known || !success || !fast || w.down(w.now) {
				failed++
				continue
			}
			if step++; step == len(steps) {
				return w.ended(Outcome{Promoted: true})
			}
			w.shift(steps[step].Weight)
		}
		return w.ended(Outcome{})
	}}
}

// Argo measures each minute in the background of pauses as long as the plan's holds; more failures than the
// limit abort, and so do five errors in a row, which are tried again after 10 s.
func Argo(name string, plan Plan, limit int) Rule {
	const interval, retry, errorLimit = 60, 10, 4
	steps, horizon := plan.below(), plan.horizon()
	return Rule{Name: name, Run: func(s Scenario, seed uint64) Outcome {
		w := peer(s, seed, plan)
		var failed [2]int
		errors, step := 0, 0
		measure, leave := w.now+interval, w.now+steps[0].Hold.Seconds()
		for w.now < horizon {
			w.advance(math.Min(measure, leave))
			if w.now >= measure {
				measure = w.now + interval
				success, fast, known := healthy(w.growth(true, w.now-interval, w.now), w.edges, plan.Config.Objectives)
				switch {
				case !known || w.down(w.now):
					errors++
					measure = w.now + retry
				default:
					errors = 0
					if !success {
						failed[0]++
					}
					if !fast {
						failed[1]++
					}
				}
				if errors > errorLimit || slices.Max(failed[:]) > limit {
					return w.ended(Outcome{RolledBack: true})
				}
			}
			if w.now >= leave {
				if step++; step == len(steps) {
					return w.ended(Outcome{Promoted: true})
				}
				leave = w.now + steps[step].Hold.Seconds()
				w.shift(steps[step].Weight)
			}
		}
		return w.ended(Outcome{})
	}}
}

// MannWhitney has steps of five minutes, each judged once at its end by a rank test at 98 % between the
// two revisions' points; a shift matters beyond a quarter of its estimate. No points at all fail.
func MannWhitney(name string, plan Plan) Rule {
	const length, spacing = 300, 30
	return Rule{Name: name, Run: func(s Scenario, seed uint64) Outcome {
		w := peer(s, seed, plan)
		for i, step := range plan.below() {
			if i > 0 {
				w.shift(step.Weight)
			}
			begin := w.now
			var canary, stable [2][]float64
			for w.now < begin+length {
				w.advance(w.now + spacing)
				if w.down(w.now) {
					continue
				}
				for arm, points := range []*[2][]float64{&canary, &stable} {
					seen := w.growth(arm == 0, w.now-spacing, w.now)
					if rate := seen.success(); !math.IsNaN(rate) {
						points[0] = append(points[0], 1-rate)
						points[1] = append(points[1], seen.quantile(0.9, w.edges))
					}
				}
			}
			if len(canary[0]) == 0 || shifted(canary[0], stable[0]) || shifted(canary[1], stable[1]) {
				return w.ended(Outcome{RolledBack: true})
			}
		}
		return w.ended(Outcome{Promoted: true})
	}}
}

// shifted: the lower end of the 98 % confidence interval of the Hodges-Lehmann shift is above a
// quarter of its estimate.
func shifted(canary, stable []float64) bool {
	const normal98, tolerance = 2.326, 0.25
	differences := make([]float64, 0, len(canary)*len(stable))
	for _, c := range canary {
		for _, s := range stable {
			differences = append(differences, c-s)
		}
	}
	if len(differences) == 0 {
		return false
	}
	slices.Sort(differences)
	m, n := float64(len(canary)), float64(len(stable))
	lowest := int(math.Floor(m*n/2 - normal98*math.Sqrt(m*n*(m+n+1)/12)))
	if lowest < 0 {
		return false
	}
	return differences[lowest] > tolerance*math.Abs(differences[len(differences)/2])
}
