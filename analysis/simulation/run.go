// SPDX-License-Identifier: Apache-2.0

package simulation

import (
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

// Decision of one look at a run.
type Decision int

// Decisions.
const (
	Stay     Decision = iota
	Next              // the next step began
	Promote           // the last step was passed
	RollBack          // the canary failed
)

// Run releases one canary by a plan: it enters steps and asks the gate that ships.
type Run struct {
	plan    Plan
	gate    *analysis.Gate
	step    int
	entered time.Time
	low     bool
	last    analysis.Judgement
}

// Begin enters a plan's first step.
func (p Plan) Begin(now time.Time) (*Run, error) {
	gate, err := analysis.Begin(p.Config, now)
	if err != nil {
		return nil, err
	}
	run := &Run{plan: p, gate: gate}
	run.enter(0, now)
	return run, nil
}

// Weight of the canary, 0 to 1.
func (r *Run) Weight() float64 { return r.plan.Steps[r.step].Weight }

// Low says whether a step was left with low evidence.
func (r *Run) Low() bool { return r.low }

// Judgement is the gate's last.
func (r *Run) Judgement() analysis.Judgement { return r.last }

// Add folds a round.
func (r *Run) Add(round analysis.Round) { r.gate.Add(round) }

// Look asks the gate and acts on what it says.
func (r *Run) Look(now time.Time) Decision {
	r.last = r.gate.Judge(now)
	switch r.last.Verdict {
	case analysis.VerdictFail:
		return RollBack
	case analysis.VerdictPass:
		return r.leave(now, r.last.Cause != analysis.CauseEvidence)
	case analysis.VerdictWait, analysis.VerdictHold:
	}
	limit := r.plan.Steps[r.step].Hold + r.plan.MaximumHold
	switch over := r.plan.MaximumHold > 0 && now.Sub(r.entered) >= limit; {
	case over && r.plan.OnInconclusive == analysis.PolicyRollback:
		return RollBack
	case over && r.plan.OnInconclusive == analysis.PolicyAdvance:
		return r.leave(now, true)
	}
	return Stay
}

func (r *Run) leave(now time.Time, low bool) Decision {
	r.low = r.low || low
	if r.step+1 == len(r.plan.Steps) {
		return Promote
	}
	r.enter(r.step+1, now)
	return Next
}

func (r *Run) enter(step int, now time.Time) {
	r.step, r.entered = step, now
	r.gate.Enter(r.plan.gateStep(step, now))
}
