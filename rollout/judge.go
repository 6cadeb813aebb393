// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// sitOut holds a step for its time without asking the gate.
func (p *planner) sitOut() {
	const why = "spec.skipAnalysis is true, the gate is not asked"
	p.status.Verdict = nil
	stop, left := p.halted(), p.holdLeft()
	switch {
	case stop != nil:
		p.stopClock()
		p.stop(stop, "")
	case left > 0:
		p.wait(v1alpha1.ReasonProgressing, fmt.Sprintf("weight %s for %s more; %s", p.weightText(p.status.Weight), left.Round(time.Second), why))
	default:
		p.leave(why)
	}
}

// harmless: the gate was looked at and does not fail the canary. A split that is not what it was may
// be the first write of a rollback whose controller died: the weight comes back only if the canary
// is not failed now.
func (p *planner) harmless() bool {
	if p.returning() || p.hurried() || p.canary.Spec.SkipAnalysis {
		return true
	}
	gate := p.seen.Gate
	return gate != nil && gate.Unavailable == "" && gate.Judgement.Verdict != analysis.VerdictFail
}

// condemned rolls back when the gate fails the canary while its pods or the proxies are waited for:
// what it has of the traffic is judged all the time.
func (p *planner) condemned() bool {
	gate := p.seen.Gate
	if gate == nil || p.hurried() || gate.Unavailable != "" || gate.Judgement.Verdict != analysis.VerdictFail {
		return false
	}
	p.verdict(gate.Judgement)
	p.rollBack(v1alpha1.OutcomeRolledBack, gate.Judgement.Reason)
	return true
}

// judge acts on the look at the gate. What is unknown is not bad and not good: the step's clock
// stands.
func (p *planner) judge() {
	if p.seen.Gate == nil {
		p.wait(v1alpha1.ReasonProgressing, "the gate is about to be looked at")
		return
	}
	if p.seen.Gate.Unavailable != "" {
		p.stopClock()
		unknown := analysis.Judgement{Verdict: analysis.VerdictHold, Reason: p.seen.Gate.Unavailable}
		p.verdict(unknown)
		if stop := p.halted(); stop != nil {
			p.stop(stop, "")
		} else if !p.inconclusive(unknown) {
			p.wait(v1alpha1.ReasonMetricsUnavailable, "metrics are unavailable, the step's clock stands: "+unknown.Reason)
		}
		return
	}
	judgement, stop := p.seen.Gate.Judgement, p.halted()
	if stop != nil {
		p.stopClock()
	}
	changed := p.status.Verdict == nil || p.status.Verdict.Verdict != string(judgement.Verdict)
	p.verdict(judgement)
	p.measurement = p.measured(judgement)
	left := p.holdLeft()
	switch {
	case judgement.Verdict == analysis.VerdictFail:
		p.rollBack(v1alpha1.OutcomeRolledBack, judgement.Reason)
	case stop != nil:
		p.stop(stop, fmt.Sprintf("%s: %s", judgement.Verdict, judgement.Reason))
	case judgement.Verdict == analysis.VerdictPass && left <= 0:
		p.leave(judgement.Reason)
	case left > 0:
		p.wait(v1alpha1.ReasonProgressing, fmt.Sprintf("weight %s for at least %s more; %s: %s",
			p.weightText(p.status.Weight), left.Round(time.Second), judgement.Verdict, judgement.Reason))
	case p.inconclusive(judgement):
	default:
		p.wait(v1alpha1.ReasonProgressing, fmt.Sprintf("weight %s; %s: %s", p.weightText(p.status.Weight), judgement.Verdict, judgement.Reason))
	}
	// A look that decided is in the entry of the transition; one that only changed the verdict gets
	// an entry of its own.
	if changed && p.measurement != nil {
		p.note(fmt.Sprintf("%s: %s", judgement.Verdict, judgement.Reason))
	}
	p.measurement = nil
}

func (p *planner) verdict(judgement analysis.Judgement) {
	p.status.Verdict = &v1alpha1.VerdictStatus{
		Verdict: string(judgement.Verdict), Reason: judgement.Reason, Time: metav1.NewTime(p.now),
		Canary: requestCounts(judgement.Canary), Stable: requestCounts(judgement.Stable),
	}
}

// measured is a look for the record.
func (p *planner) measured(judgement analysis.Judgement) *v1alpha1.RunMeasurement {
	return &v1alpha1.RunMeasurement{
		Verdict: string(judgement.Verdict), Reason: judgement.Reason, Queries: p.seen.Gate.Queries,
		Canary: requestCounts(judgement.Canary), Stable: requestCounts(judgement.Stable),
	}
}

func requestCounts(counts analysis.Counts) *v1alpha1.RequestCounts {
	return &v1alpha1.RequestCounts{Requests: int64(counts.Requests), Errors: int64(counts.Errors), Slow: int64(counts.Slow)}
}

// stopClock moves the step's start by the time since the last look.
func (p *planner) stopClock() {
	started := p.status.StepStartedAt
	if started == nil {
		return
	}
	last := started.Time
	if p.status.Verdict != nil && p.status.Verdict.Time.After(last) {
		last = p.status.Verdict.Time.Time
	}
	if lost := p.now.Sub(last); lost > 0 {
		p.status.StepStartedAt = stamp(started.Add(lost))
	}
}

func (p *planner) holdLeft() time.Duration {
	steps, i := p.steps(), int(p.status.Step)
	if p.status.StepStartedAt == nil || i < 0 || i >= len(steps) {
		return 0
	}
	return p.status.StepStartedAt.Add(steps[i].Hold.Duration).Sub(p.now)
}

// evidenceAnew leaves out what happened until stable has its pods again: no revision could answer.
func (p *planner) evidenceAnew() {
	if p.status.EvidenceSince != nil && p.status.Weight == 0 && !p.stableWhole() {
		p.status.EvidenceSince = stamp(p.now)
	}
}
