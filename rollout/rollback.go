// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/internal/fluxkit"
)

// interrupted comes first in every phase of a run: whatever ends the run early is acted on before
// anything moves on.
func (p *planner) interrupted() bool {
	t := p.seen.Target
	stable, stableKnown := p.stableTemplate()
	canary, canaryKnown := p.canaryTemplate()
	switch {
	case !t.Paused:
		p.bypassed()
	case p.run == nil:
		p.rollBack(v1alpha1.OutcomeCancelled, fmt.Sprintf("the record of run %s was deleted", p.status.Run))
	case p.run.Record.Outcome == v1alpha1.OutcomePromoted:
		p.event(false, v1alpha1.ReasonPromoted, fmt.Sprintf("run %s had been promoted", p.status.Run))
		p.enter(v1alpha1.PhaseStable, "the run had been promoted")
	case p.run.Record.Outcome != "":
		p.rollBack(p.run.Record.Outcome, "the run had been ended")
	case p.asked(v1alpha1.AnnotationAbort):
		p.abort()
	case p.evacuated():
		p.rollBack(v1alpha1.OutcomeCancelled, p.emergency().message)
	case p.deleting():
		p.rollBack(v1alpha1.OutcomeCancelled, "the Canary is being deleted")
	case p.targetIs(stable, stableKnown):
		p.rollBack(v1alpha1.OutcomeCancelled, "the workload's template is stable's again")
	case !p.targetIs(canary, canaryKnown):
		p.rollBack(v1alpha1.OutcomeCancelled, "the workload has a newer template")
	default:
		why := p.recalled()
		if why == "" {
			p.notePause()
			return false
		}
		p.rollBack(v1alpha1.OutcomeRolledBack, why)
	}
	return true
}

// bypassed: somebody unpaused the Deployment, and its controller rolls out. With the break-glass label
// that is what shall be; else the next look holds it again.
func (p *planner) bypassed() {
	message := "the Deployment was unpaused in the midst of the run"
	if p.seen.Target.Unmanaged {
		message = "the Deployment was unpaused with the break-glass label " + v1alpha1.LabelManage + ": its controller rolls the held template out without analysis"
	}
	p.end(v1alpha1.OutcomeCancelled, message)
	p.event(true, v1alpha1.ReasonBypassed, message)
	p.handAll()
	p.status.Canary, p.status.Weight = nil, 0
	p.status.Phase, p.status.PhaseStartedAt = v1alpha1.PhaseStable, stamp(p.now)
	p.moving(v1alpha1.ReasonBypassed, message)
	p.decision.Next = AtOnce
}

// rollBack ends a run: its outcome is decided now, and the traffic leaves in the same breath.
func (p *planner) rollBack(outcome v1alpha1.Outcome, why string) {
	p.asks = nil
	if p.seen.Split != nil && !p.pinned() {
		p.writeSplit(0, Routing{})
	}
	p.status.Weight = 0
	p.decideOutcome(outcome)
	p.enter(v1alpha1.PhaseRollingBack, why)
	p.moving(v1alpha1.ReasonRollingBack, why)
	if outcome == v1alpha1.OutcomeRolledBack {
		p.event(true, v1alpha1.ReasonRolledBack, why)
	}
}

// rollingBack waits for traffic and open work to leave the canary, then takes its pods.
func (p *planner) rollingBack() {
	if !p.seen.Target.Paused {
		p.bypassed()
		return
	}
	canary := p.canarySet()
	empty := canary == nil || canary.Replicas == 0 && canary.Pods == 0
	// Without a split the pods of both revisions have traffic. The drain begins when it is there.
	if (p.seen.Split != nil || !empty) && !p.pinned() {
		p.writeSplit(0, Routing{})
		p.status.PhaseStartedAt = stamp(p.now)
	}
	p.keepHold()
	switch {
	case empty:
		p.rolledBack()
	case canary.Replicas == 0:
		p.wait(v1alpha1.ReasonRollingBack, fmt.Sprintf("waiting for %d canary pods to go", canary.Pods))
	case p.seen.Split == nil:
		p.waitForProxies()
	case !p.drained(canary.Hash):
		p.wait(v1alpha1.ReasonRollingBack, p.drainMessage(canary.Hash))
	default:
		p.do(ScaleSet{Name: canary.Name})
		p.wait(v1alpha1.ReasonRollingBack, "the canary is drained, its pods go")
	}
}

// rolledBack closes the run. A rejected template keeps the Deployment held, anything else goes on
// from the stable phase.
func (p *planner) rolledBack() {
	if !p.strays() { // else the split keeps traffic off them until they are gone
		p.deleteSplit()
	}
	outcome := v1alpha1.OutcomeCancelled
	if p.run != nil && p.run.Record.Outcome != "" {
		outcome = p.run.Record.Outcome
	}
	p.end(outcome, "the canary's pods are gone")
	if outcome == v1alpha1.OutcomeRolledBack {
		p.enter(v1alpha1.PhaseRejected, "the Deployment stays held at the rejected template")
		p.standRejected()
		return
	}
	p.event(false, v1alpha1.ReasonCancelled, fmt.Sprintf("run %s was cancelled", p.status.Run))
	p.enter(v1alpha1.PhaseStable, "the run was cancelled")
}

// drained: every proxy has taken the traffic off a revision and nothing is open on it, or the drain
// deadline has passed: an unreachable proxy delays no longer than that.
func (p *planner) drained(hash string) bool {
	split := p.seen.Split
	if split == nil || split.Acknowledged && split.Open[hash] == 0 && !p.reached(hash) {
		return true
	}
	if p.since() < p.drain() {
		return false
	}
	p.event(true, v1alpha1.ReasonDrainDeadlinePassed, fmt.Sprintf(
		"%d requests and connections were still open on %s after %s", split.Open[hash], hash, p.drain()))
	return true
}

// reached says whether the split lets requests get to a revision.
func (p *planner) reached(hash string) bool {
	split := p.seen.Split
	switch hash {
	case split.CanaryHash:
		return split.reaches()
	case split.StableHash:
		return split.CanaryWeight < totalOf(split.TotalWeight)
	}
	return false
}

func (p *planner) drain() time.Duration {
	return durationOr(p.canary.Spec.Drain, defaultDrain)
}

func (p *planner) drainMessage(hash string) string {
	split := p.seen.Split
	if !split.Acknowledged {
		return fmt.Sprintf("waiting for the proxies to take the traffic off %s, at most until %s", hash, p.until(p.drain()))
	}
	return fmt.Sprintf("%d requests and connections are open on %s; waiting for them at most until %s", split.Open[hash], hash, p.until(p.drain()))
}

// rejectAgain goes straight to the verdict that a template already has.
func (p *planner) rejectAgain(run *v1alpha1.CanaryRun) {
	p.status.Run = run.Name
	p.run = run
	p.status.Canary = &v1alpha1.RevisionStatus{
		ReplicaSet: run.Spec.Candidate.ReplicaSet, PodTemplateHash: run.Spec.Candidate.PodTemplateHash,
	}
	p.event(true, v1alpha1.ReasonRolledBack, fmt.Sprintf("run %s rejected this template before; it is not tried again", run.Name))
	p.enter(v1alpha1.PhaseRejected, "the template came back and was rejected before")
	p.standRejected()
}

// rejected keeps the Deployment held until Git moves on.
func (p *planner) rejected() {
	stable, stableKnown := p.stableTemplate()
	canary, canaryKnown := p.canaryTemplate()
	switch {
	case p.deleting():
		p.unwind()
	case !p.seen.Target.Paused:
		p.event(true, v1alpha1.ReasonBypassed, "the Deployment was unpaused at a rejected template")
		p.enter(v1alpha1.PhaseStable, "the Deployment was unpaused at a rejected template")
	case p.targetIs(stable, stableKnown):
		p.enter(v1alpha1.PhaseStable, "the workload's template is stable's again")
	case !p.speaksOf(canary, canaryKnown):
		p.enter(v1alpha1.PhaseStable, "the workload has a newer template")
	case p.asked(v1alpha1.AnnotationRetry):
		p.retry()
	default:
		p.keepHold()
		if p.cleared() {
			p.deleteSplit()
		}
		p.standRejected()
	}
}

func (p *planner) standRejected() {
	why := "its canary was rejected"
	if p.run != nil {
		for _, entry := range p.run.Record.Entries {
			if entry.Phase == v1alpha1.PhaseRollingBack {
				why = entry.Message
				break
			}
		}
	}
	p.stand(fluxkit.Standing{Ready: metav1.ConditionFalse, Stalled: true, Reason: v1alpha1.ReasonRolledBack,
		Message: fmt.Sprintf("run %s rolled back: %s; revert or fix the template in Git, or ask for another try", p.status.Run, why)})
}
