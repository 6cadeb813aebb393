// SPDX-License-Identifier: Apache-2.0

package simulation

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Interval is an estimate with its 95 % confidence interval. NaN where there is nothing to estimate.
type Interval struct{ Value, Low, High float64 }

// Cell is what one rule did in many runs of one scenario.
type Cell struct {
	Scenario Scenario
	Rule     string
	Runs     int
	// Wrong is the share of false rollbacks or of missed regressions, in percent. WrongFull leaves
	// promotions out that said themselves that their evidence was low.
	Wrong, WrongFull Interval
	// Median and P95 are the seconds to the right decision, and Bad the mean of bad requests until any.
	Median, P95, Bad Interval
	// Undecided is the share of runs that came to no end, and Low of those that were promoted with low
	// evidence, in percent.
	Undecided, Low Interval
	// Stages are the plan's steps, as far as any run came.
	Stages []Stage
	// Example is the reason of the gate's last verdict in the first run.
	Example string
}

// Stage is what happened at one step.
type Stage struct {
	// Left is the median of the seconds after which runs left it for the next step or as promoted.
	Left Interval
	// RolledBack is the share of all runs, in percent, that were rolled back in it.
	RolledBack Interval
}

// Runs are how many runs of each cell are played. Another Seed gives other runs.
type Runs struct {
	Count int
	Seed  uint32
}

// Play runs each scenario so many times with each rule, in parallel; cells come in the scenarios'
// order, then the rules'. A cell depends on its scenario, its rule and the runs only.
func Play(ctx context.Context, scenarios []Scenario, rules []Rule, runs Runs) ([]Cell, error) {
	cells := make([]Cell, len(scenarios)*len(rules))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, scenario := range scenarios {
		for j, rule := range rules {
			group.Go(func() error {
				outcomes := make([]Outcome, 0, runs.Count)
				for number := range uint64(runs.Count) {
					if err := ctx.Err(); err != nil {
						return fmt.Errorf("play %s: %w", scenario.Name, err)
					}
					outcomes = append(outcomes, rule.Run(scenario, uint64(runs.Seed)<<32+number+1))
				}
				cells[i*len(rules)+j] = newCell(scenario, rule.Name, outcomes)
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return cells, nil
}

func newCell(scenario Scenario, rule string, outcomes []Outcome) Cell {
	var wrong, wrongFull, undecided, low int
	var took, bad []float64
	for _, o := range outcomes {
		bad = append(bad, o.Bad)
		if o.Promoted && o.Low {
			low++
		}
		rightly := o.RolledBack
		if scenario.Good {
			rightly = o.Promoted
		}
		switch {
		case rightly:
			took = append(took, o.Took)
		case o.Promoted || o.RolledBack:
			wrong++
			if !o.Low {
				wrongFull++
			}
		default:
			undecided++
		}
	}
	slices.Sort(took)
	return Cell{
		Scenario: scenario, Rule: rule, Runs: len(outcomes),
		Wrong: share(wrong, len(outcomes)), WrongFull: share(wrongFull, len(outcomes)),
		Median: Quantile(took, 0.5), P95: Quantile(took, 0.95), Bad: Mean(bad),
		Undecided: share(undecided, len(outcomes)), Low: share(low, len(outcomes)),
		Stages: stages(outcomes), Example: outcomes[0].Reason,
	}
}

// stages sums up by step.
func stages(outcomes []Outcome) []Stage {
	var left [][]float64
	var rolledBack []int
	for _, o := range outcomes {
		reached := len(o.Left)
		if !o.Promoted {
			reached++
		}
		for len(left) < reached {
			left, rolledBack = append(left, nil), append(rolledBack, 0)
		}
		for i, at := range o.Left {
			left[i] = append(left[i], at)
		}
		if o.RolledBack {
			rolledBack[len(o.Left)]++
		}
	}
	var stages []Stage
	for i := range left {
		slices.Sort(left[i])
		stages = append(stages, Stage{Left: Quantile(left[i], 0.5), RolledBack: share(rolledBack[i], len(outcomes))})
	}
	return stages
}

const normal95 = 1.96

func share(part, whole int) Interval {
	return Share(float64(part)/float64(whole), float64(whole))
}

// Share p of n, in percent, with Wilson's interval.
func Share(p, n float64) Interval {
	centre := (p + normal95*normal95/(2*n)) / (1 + normal95*normal95/n)
	half := normal95 / (1 + normal95*normal95/n) * math.Sqrt(p*(1-p)/n+normal95*normal95/(4*n*n))
	return Interval{100 * p, 100 * math.Max(0, centre-half), 100 * math.Min(1, centre+half)}
}

// Quantile of sorted values, with an interval by order statistics.
func Quantile(sorted []float64, q float64) Interval {
	n := float64(len(sorted))
	if n == 0 {
		return Interval{math.NaN(), math.NaN(), math.NaN()}
	}
	at := func(rank float64) float64 {
		return sorted[int(math.Max(0, math.Min(n-1, math.Ceil(rank)-1)))]
	}
	half := normal95 * math.Sqrt(n*q*(1-q))
	return Interval{at(n * q), at(n*q - half), at(n*q + half + 1)}
}

// Mean with a normal interval.
func Mean(values []float64) Interval {
	n, sum, squares := float64(len(values)), 0.0, 0.0
	for _, value := range values {
		sum += value
	}
	for _, value := range values {
		squares += (value - sum/n) * (value - sum/n)
	}
	half := normal95 * math.Sqrt(squares/math.Max(1, n-1)/n)
	return Interval{sum / n, sum/n - half, sum/n + half}
}
