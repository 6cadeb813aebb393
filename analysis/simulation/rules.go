// SPDX-License-Identifier: Apache-2.0

package simulation

import (
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
	// Fresh knows nothing from before the run, neither how stable's pods differ nor its latencies.
	Fresh bool
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
	reader := &reader{view: v, noPods: options.NoPods}
	if options.Fresh {
		v.picked, reader.last = [2]time.Duration{}, epoch()
		w.reported = true
	}
	w.advance(0)
	run, err := plan.Begin(epoch())
	if err != nil {
		panic(err) // Validate was not asked
	}
	w.shift(run.Weight())
	reader.run = run
	for horizon := plan.horizon(); w.now < horizon; {
		w.advance(w.now + options.Interval)
		if w.down(w.now) && !w.reported {
			continue // the source answers with an error: hold
		}
		reader.read()
		switch run.Look(at(w.now)) {
		case Promote:
			return w.judged(run, Outcome{Promoted: true})
		case RollBack:
			return w.judged(run, Outcome{RolledBack: true})
		case Next:
			w.shift(run.Weight())
		case Stay:
		}
	}
	return w.judged(run, Outcome{})
}

func (w *world) judged(run *Run, outcome Outcome) Outcome {
	outcome.Low, outcome.Reason = outcome.Promoted && run.Low(), run.Judgement().Reason
	return w.ended(outcome)
}

// reader folds what has been scraped since it read last.
type reader struct {
	view   *view
	run    *Run
	noPods bool
	last   time.Time
}

func (r *reader) read() {
	for _, round := range r.view.since(r.last) {
		if r.noPods {
			round.StablePods = nil
		}
		r.run.Add(round)
		if !round.Open {
			r.last = round.End
		}
	}
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
