// SPDX-License-Identifier: Apache-2.0

package simulation

import (
	"fmt"
	"math"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

// Plan is how a canary gets its weights, and what it is judged by.
type Plan struct {
	Steps []Step
	// Config of the gate.
	Config analysis.Config
	// MaximumHold is how much longer than its hold a step may last without a pass; then OnInconclusive
	// is done, unless that is to hold. 0 is without end.
	MaximumHold    time.Duration
	OnInconclusive analysis.Policy
	// Histogram has the edges, in seconds, of which the gate picks those that it reads.
	Histogram []float64
}

// Step of a plan.
type Step struct {
	// Weight is the canary's share of requests, above 0 and at most 1.
	Weight float64
	Hold   time.Duration
}

// usualPlan is that of the tables: 5, 10, 25 and 50 %, a minute each at least.
func usualPlan() Plan {
	plan := Plan{Config: analysis.Defaults(), OnInconclusive: analysis.PolicyHold, Histogram: histogramEdges()}
	plan.Config.OnInconclusive = analysis.PolicyAdvance
	for _, weight := range []float64{0.05, 0.10, 0.25, 0.50} {
		plan.Steps = append(plan.Steps, Step{weight, time.Minute})
	}
	return plan
}

// pauses is the same with the two minutes that the tables give Argo.
func pauses() Plan {
	plan := usualPlan()
	for i := range plan.Steps {
		plan.Steps[i].Hold = 2 * time.Minute
	}
	return plan
}

// Validate says what is wrong with a plan. A rule may only be made of one that is valid.
func (p Plan) Validate() error {
	if len(p.Steps) == 0 {
		return fmt.Errorf("a plan without steps")
	}
	before := 0.0
	for i, step := range p.Steps {
		if !(step.Weight > before && step.Weight <= 1) {
			return fmt.Errorf("the weight of step %d is not above that of the step before and at most 100 %%", i+1)
		}
		if step.Hold < 0 {
			return fmt.Errorf("the hold of step %d is negative", i+1)
		}
		before = step.Weight
	}
	if p.judgedEdge() == 0 {
		return fmt.Errorf("the latency limit %v is below the lowest edge of the histogram", p.Config.Objectives.LatencyLimit)
	}
	switch p.OnInconclusive {
	case analysis.PolicyAdvance, analysis.PolicyHold, analysis.PolicyRollback:
	default:
		return fmt.Errorf("on inconclusive %q: write advance, hold or rollback", p.OnInconclusive)
	}
	_, err := analysis.Begin(p.Config, epoch())
	return err
}

// horizon ends a run that comes to no end by itself, in seconds.
func (p Plan) horizon() float64 {
	sum := p.Config.StepDeadline
	for _, step := range p.Steps {
		sum += max(step.Hold+p.MaximumHold, p.Config.StepDeadline)
	}
	return sum.Seconds()
}

// below has the steps in which stable still has requests. Other tools hand over after the last of them.
func (p Plan) below() []Step {
	steps := p.Steps
	for len(steps) > 1 && steps[len(steps)-1].Weight >= 1 {
		steps = steps[:len(steps)-1]
	}
	return steps
}

// judgedEdge is the edge of the histogram over which responses are slow.
func (p Plan) judgedEdge() time.Duration {
	return analysis.LatencyEdge(p.Config.Objectives.LatencyLimit)
}

// gateStep is a step as the gate wants it.
func (p Plan) gateStep(i int, startedAt time.Time) analysis.Step {
	percent := func(weight float64) int32 { return int32(math.Max(1, math.Round(100*weight))) }
	step := analysis.Step{StartedAt: startedAt, Hold: p.Steps[i].Hold, Weight: percent(p.Steps[i].Weight), NextWeight: 100}
	if i+1 < len(p.Steps) {
		step.NextWeight = percent(p.Steps[i+1].Weight)
	}
	return step
}

// MeanHold is the interval with which a tool that has one for all steps takes as long as the plan's
// holds, at least 10 s.
func (p Plan) MeanHold() time.Duration {
	sum, steps := time.Duration(0), p.below()
	for _, step := range steps {
		sum += step.Hold
	}
	return max((sum / time.Duration(len(steps))).Round(time.Second), 10*time.Second)
}
