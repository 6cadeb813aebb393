// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"time"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// held sets a run up: the Deployment owns stable and nothing else, stable is whole, and all traffic
// is pinned to it by a split that every proxy runs. Only then may canary pods exist.
func (p *planner) held() {
	if p.interrupted() {
		return
	}
	p.keepHold()
	if p.shield() {
		return
	}
	stop := p.braked()
	switch {
	case stop != nil:
		p.stop(stop, "a new template is held")
	case p.unasked():
		p.leaveQueue()
	// Asked before a slot of a budget is taken: others run while somebody makes up his mind.
	case !p.agreed(v1alpha1.WebhookConfirmRollout, "begin"):
		p.leaveQueue()
	case p.queued():
	case !p.stableWhole():
		p.waitForStable()
	case !p.pinned():
		p.writeSplit(0, Routing{})
		p.waitForProxies()
	case !p.seen.Split.Acknowledged:
		p.waitForProxies()
	case !p.cleared():
		p.wait(v1alpha1.ReasonProgressing, "pods that no revision of the run needs are going")
	default:
		p.enter(v1alpha1.PhaseScaling, "all traffic is pinned to stable")
	}
}

// scaling makes the pods that the next weight needs.
func (p *planner) scaling() {
	if p.interrupted() {
		return
	}
	p.keepHold()
	p.align()
	p.renewDeadline()
	if p.condemned() {
		return
	}
	lost := p.retreat()
	switch {
	case p.seen.Target.Replicas == 0:
		p.scaleToZero()
		return
	case !lost && !p.splitIs(p.status.Weight):
		p.repairSplit()
		return
	case !lost && (p.fallBack() || p.hurry()):
		return
	}
	p.evidenceAnew()
	p.sizeCanary()
	canary := p.canarySet()
	switch {
	case lost || canary == nil || canary.Ready < p.need():
		p.waitForPods()
	case !p.stableWhole():
		p.waitForStable()
	case p.showPreview():
		p.waitForProxies()
	case !p.mayRise():
	default:
		p.enter(v1alpha1.PhaseShifting, fmt.Sprintf("%d canary pods are ready for weight %s", canary.Ready, p.weightText(p.weight())))
	}
}

// mayRise: neither a brake nor a webhook is against the next weight. The time that they take is not the
// pods' fault.
func (p *planner) mayRise() bool {
	stop := p.rising()
	if stop == nil && p.mayShift() {
		return true
	}
	if stop != nil {
		p.stop(stop, "the canary's pods are ready")
	}
	if p.status.Phase == v1alpha1.PhaseScaling {
		p.status.PhaseStartedAt = stamp(p.now)
	}
	return false
}

// shifting writes a step's weight and waits until every proxy runs it.
func (p *planner) shifting() {
	if p.interrupted() {
		return
	}
	p.keepHold()
	p.align()
	if p.condemned() {
		return
	}
	if p.retreat() || p.seen.Target.Replicas == 0 {
		p.enter(v1alpha1.PhaseScaling, p.lossMessage())
		return
	}
	if p.hurry() {
		return
	}
	p.sizeCanary()
	stop := p.rising()
	switch {
	case p.splitSays(p.weight(), p.routing()):
	case stop != nil:
		p.enter(v1alpha1.PhaseScaling, stop.message)
		return
	case p.canarySet() == nil || p.canarySet().Ready < p.need():
		p.enter(v1alpha1.PhaseScaling, p.lossMessage())
		return
	case !p.stableWhole():
		p.waitForStable()
		return
	default:
		p.writeSplit(p.weight(), p.routing())
		p.waitForProxies()
		return
	}
	p.status.Weight, p.status.TotalWeight = p.weight(), p.total()
	if !p.seen.Split.Acknowledged {
		p.waitForProxies()
		return
	}
	p.status.StepStartedAt = stamp(p.now)
	p.enter(v1alpha1.PhaseHolding, fmt.Sprintf("weight %s is acknowledged by %d proxies", p.weightText(p.status.Weight), p.seen.Split.Carrying))
}

// holding keeps a step's weight until its gate is passed.
func (p *planner) holding() {
	if p.interrupted() {
		return
	}
	p.keepHold()
	p.align()
	switch {
	case p.status.Phase == v1alpha1.PhaseShifting: // the steps were edited
		return
	case p.retreat():
		p.enter(v1alpha1.PhaseScaling, p.lossMessage())
		return
	case !p.splitSays(p.weight(), p.routing()) && p.harmless():
		p.enter(v1alpha1.PhaseShifting, "the split is not what it was")
		return
	}
	if p.hurry() {
		return
	}
	p.sizeCanary()
	switch {
	case p.returning():
		p.leaveStep("this revision was stable before")
	case p.hurried():
		p.leaveStep("people asked for promotion")
		p.requested(actionPromote, v1alpha1.AnnotationPromote)
	case !p.tested():
	case p.canary.Spec.SkipAnalysis:
		p.sitOut()
	default:
		p.judge()
	}
}

// leaveStep goes on to the next step or, after the last, to the handover.
func (p *planner) leaveStep(why string) {
	if p.unapproved(why) {
		return
	}
	last, stop := int(p.status.Step) == len(p.steps())-1, p.halted()
	if !last && stop == nil {
		stop = p.braked()
	}
	if stop != nil {
		p.stop(stop, fmt.Sprintf("weight %s is passed: %s", p.weightText(p.status.Weight), why))
		return
	}
	p.noteApprovals(p.status.Step)
	if last {
		p.enter(v1alpha1.PhasePromoting, "the last gate is passed: "+why)
		return
	}
	passed := p.weightText(p.status.Weight)
	p.status.Step++
	p.enter(v1alpha1.PhaseScaling, fmt.Sprintf("weight %s is passed: %s", passed, why))
}

// stepAt is the highest step not above a weight; -1 when all are.
func (p *planner) stepAt(weight int32) int32 {
	step := int32(-1)
	for i := range p.steps() {
		if p.weightAt(int32(i)) <= weight {
			step = int32(i)
		}
	}
	return step
}

// sizeCanary makes the canary as large as the larger of the weight in force and the next one needs,
// following the Deployment's replicas, which an autoscaler may move. Pods that are asked for only now
// have the whole deadline.
func (p *planner) sizeCanary() {
	want := max(p.need(), needed(p.status.Weight, p.total(), p.seen.Target.Replicas))
	canary := p.canarySet()
	switch {
	case canary == nil:
		p.do(CreateSet{
			Name: p.status.Canary.ReplicaSet, Hash: p.status.Canary.PodTemplateHash, Role: v1alpha1.RevisionCanary,
			Template: p.seen.Target.Template, Replicas: want,
		})
		p.status.PhaseStartedAt = stamp(p.now)
	case !canary.Owned && !canary.Deleting && canary.Replicas != want:
		p.do(ScaleSet{Name: canary.Name, Replicas: want})
		p.status.PhaseStartedAt = stamp(p.now)
	}
}

// retreat takes the traffic off a canary that has nothing left to serve it with, and as much of it as
// the pods that are left do not carry. It comes back when the pods do, with an acknowledgement.
func (p *planner) retreat() bool {
	canary := p.canarySet()
	if p.seen.Target.Replicas > 0 && canary != nil && canary.Ready > 0 {
		return p.yield(canary)
	}
	if p.status.Weight == 0 && (p.seen.Split == nil || !p.seen.Split.reaches()) {
		return false
	}
	p.writeSplit(0, Routing{})
	p.status.Step = max(0, p.status.Step) // without weight there is no step above which all others are
	return true
}

// yield lowers the weight to what the ready pods carry when some of them died. An autoscaler that asks
// for more pods is no reason: the load on those there are is what it was.
func (p *planner) yield(canary *Set) bool {
	before := p.canary.Status.Canary
	weight := carried(canary.Ready, p.total(), p.seen.Target.Replicas)
	if before == nil || canary.Ready >= before.ReadyReplicas || weight >= p.status.Weight {
		return false
	}
	routing := p.inForce()
	if p.splitIs(p.status.Weight) {
		routing = p.seen.Split.Routing
	}
	p.writeSplit(weight, routing)
	return true
}

func (p *planner) lossMessage() string {
	if p.seen.Target.Replicas == 0 {
		return "the workload was scaled to zero"
	}
	return "the canary has too few ready pods for its weight"
}

// scaleToZero waits with a workload that has no replicas, and clears the canary's pods when no
// traffic can reach them.
func (p *planner) scaleToZero() {
	p.status.PhaseStartedAt = stamp(p.now)
	p.status.EvidenceSince = stamp(p.now)
	canary := p.canarySet()
	if canary != nil && canary.Replicas > 0 && p.status.Weight == 0 && p.pinned() {
		p.do(ScaleSet{Name: canary.Name})
	}
	p.moving(v1alpha1.ReasonScaledToZero, "the workload has no replicas; the run goes on when it has")
}

// waitForPods waits for the canary's capacity. Pods that run and do not become ready are the canary's
// fault; pods that nobody could place or make are not.
func (p *planner) waitForPods() {
	ready, canary := int32(0), p.canarySet()
	if canary != nil {
		ready = canary.Ready
	}
	state := fmt.Sprintf("%d of %d canary pods are ready for weight %s", ready, p.need(), p.weightText(p.weight()))
	deadline := p.scalingDeadline()
	switch {
	case p.since() < deadline:
		p.wait(v1alpha1.ReasonProgressing, fmt.Sprintf("%s; waiting until %s", state, p.until(deadline)))
	case p.seen.Starved != "" || canary == nil:
		p.status.PhaseStartedAt = stamp(p.now)
		p.wait(v1alpha1.ReasonInsufficientCanary, fmt.Sprintf("%s: %s", state, p.seen.Starved))
	default:
		p.rollBack(v1alpha1.OutcomeRolledBack, fmt.Sprintf("%s after %s", state, deadline))
	}
}

// renewDeadline: at the last look there were enough canary pods, or fewer were asked for. Those that
// were lost or asked for since have the whole deadline, however long the controller was away.
func (p *planner) renewDeadline() {
	canary, last := p.canarySet(), p.status.Canary
	if last.ReadyReplicas >= p.need() || canary != nil && canary.Replicas != last.Replicas {
		p.status.PhaseStartedAt = stamp(p.now)
	}
}

func (p *planner) until(wait time.Duration) string {
	if p.status.PhaseStartedAt == nil {
		return wait.String() + " from now"
	}
	return p.status.PhaseStartedAt.Add(wait).UTC().Format(time.RFC3339)
}

// stableWhole: stable could take all the traffic back this instant.
func (p *planner) stableWhole() bool {
	stable := p.stableSet()
	return p.seen.Target.Replicas == 0 || stable != nil && stable.Owned && stable.Ready >= p.seen.Target.Replicas
}

func (p *planner) waitForStable() {
	ready := int32(0)
	if stable := p.stableSet(); stable != nil {
		ready = stable.Ready
	}
	p.wait(v1alpha1.ReasonInsufficientStable, fmt.Sprintf(
		"%d of %d stable pods are ready: no traffic is moved until stable could take all of it back; to release without Sluice, unpause the Deployment with label %s=%s",
		ready, p.seen.Target.Replicas, v1alpha1.LabelManage, v1alpha1.ManageOff))
}
