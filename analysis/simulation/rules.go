// SPDX-License-Identifier: Apache-2.0

package simulation

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

// horizon ends every run, in seconds.
const horizon = 4500

// Outcome is how one run ended.
type Outcome struct {
	// Promoted or rolled back, at so many seconds; neither if the run went on to the horizon.
	Promoted, RolledBack bool
	Took                 float64
	// Bad requests of the canary until then.
	Bad float64
	// Low: a step was left with low evidence, so the promotion promises nothing.
	Low bool
}

// Rule decides about one run of a scenario.
type Rule struct {
	Name string
	Run  func(s Scenario, seed uint64) Outcome
}

func weights() []float64 { return []float64{0.05, 0.10, 0.25, 0.50} }

func (w *world) ended(outcome Outcome) Outcome {
	outcome.Took, outcome.Bad = w.now, w.harm()
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
func Gate(name string, options GateOptions) Rule {
	return Rule{Name: name, Run: func(s Scenario, seed uint64) Outcome { return runGate(s, seed, options) }}
}

func runGate(s Scenario, seed uint64, options GateOptions) Outcome {
	config := analysis.Defaults()
	config.OnInconclusive = analysis.PolicyAdvance
	if options.Change != nil {
		options.Change(&config)
	}
	w := newWorld(s, options.Vantage, seed, gateEdges(s, config.Objectives.LatencyLimit))
	v := newView(w, config.Objectives.LatencyLimit)
	v.lateBirth = options.LateBirth
	w.advance(0)
	gate, err := analysis.Begin(config, epoch())
	if err != nil {
		panic(err) // the scenarios' configurations are constants
	}
	run := &gateRun{world: w, gate: gate, options: options}
	run.enter(0)
	for w.now < horizon {
		w.advance(w.now + options.Interval)
		if w.down(w.now) {
			continue // the source answers with an error: hold
		}
		if outcome, over := run.look(v); over {
			return w.ended(outcome)
		}
	}
	return w.ended(Outcome{})
}

type gateRun struct {
	world   *world
	gate    *analysis.Gate
	options GateOptions
	step    int
	read    time.Time
	low     bool
}

func (r *gateRun) enter(step int) {
	r.step = step
	all := weights()
	next := 1.0
	if step+1 < len(all) {
		next = all[step+1]
	}
	r.world.shift(all[step])
	r.gate.Enter(analysis.Step{
		StartedAt: at(r.world.now), Hold: time.Minute,
		Weight: int32(math.Round(100 * all[step])), NextWeight: int32(math.Round(100 * next)),
	})
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
	switch judgement.Verdict {
	case analysis.VerdictFail:
		return Outcome{RolledBack: true}, true
	case analysis.VerdictPass:
		r.low = r.low || judgement.Cause != analysis.CauseEvidence
		if r.step+1 == len(weights()) {
			return Outcome{Promoted: true, Low: r.low}, true
		}
		r.enter(r.step + 1)
	case analysis.VerdictWait, analysis.VerdictHold:
	}
	return Outcome{}, false
}

// peer makes a world for a rule that asks for windows of each revision.
func peer(s Scenario, seed uint64) *world {
	w := newWorld(s, Vantage{Scrape: 15}, seed, histogramEdges())
	w.keep = true
	w.advance(0)
	w.shift(weights()[0])
	return w
}

// healthy: 99 % succeed and the 99th percentile is within 500 ms. NaN is neither true nor false.
func healthy(t tally, edges []float64) (success, fast, known bool) {
	rate, p99 := t.success(), t.quantile(0.99, edges)
	return rate >= 0.99, p99 <= 0.5, !math.IsNaN(rate)
}

// Flagger looks every interval at both metrics over a window of that length; whatever is not in range, and no
// data, counts as failed; when the threshold was reached, the next tick rolls back.
func Flagger(name string, interval float64) Rule {
	const threshold = 5
	return Rule{Name: name, Run: func(s Scenario, seed uint64) Outcome {
		w := peer(s, seed)
		failed, step := 0, 0
		for w.now < horizon {
			w.advance(w.now + interval)
			if failed >= threshold {
				return w.ended(Outcome{RolledBack: true})
			}
			success, fast, known := healthy(w.growth(true, w.now-interval, w.now), w.edges)
			if !known || !success || !fast || w.down(w.now) {
				failed++
				continue
			}
			if step++; step == len(weights()) {
				return w.ended(Outcome{Promoted: true})
			}
			w.shift(weights()[step])
		}
		return w.ended(Outcome{})
	}}
}

// Argo measures each minute in the background of pauses of two minutes; more failures than the
// limit abort, and so do five errors in a row, which are tried again after 10 s.
func Argo(name string, limit int) Rule {
	const interval, pause, retry, errorLimit = 60, 120, 10, 4
	return Rule{Name: name, Run: func(s Scenario, seed uint64) Outcome {
		w := peer(s, seed)
		var failed [2]int
		errors, step := 0, 0
		measure, leave := w.now+interval, w.now+pause
		for w.now < horizon {
			w.advance(math.Min(measure, leave))
			if w.now >= measure {
				measure = w.now + interval
				success, fast, known := healthy(w.growth(true, w.now-interval, w.now), w.edges)
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
				leave = w.now + pause
				if step++; step == len(weights()) {
					return w.ended(Outcome{Promoted: true})
				}
				w.shift(weights()[step])
			}
		}
		return w.ended(Outcome{})
	}}
}

// MannWhitney has steps of five minutes, each judged once at its end by a rank test at 98 % between the
// two revisions' points; a shift matters beyond a quarter of its estimate. No points at all fail.
func MannWhitney(name string) Rule {
	const length, spacing = 300, 30
	return Rule{Name: name, Run: func(s Scenario, seed uint64) Outcome {
		w := peer(s, seed)
		for step := range weights() {
			w.shift(weights()[step])
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
