// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// promoting hands the canary's ReplicaSet to the Deployment controller, then lets it go on. A full canary
// takes stable's place at once; one of a few pods is left to the Deployment's own rolling update.
func (p *planner) promoting() {
	canary := p.canarySet()
	if canary == nil || !canary.Owned {
		p.handOver(canary)
		return
	}
	p.finish(canary)
}

// handOver is release first: stable stops matching the selector before the canary matches, so that
// the Deployment never owns two active sets and nothing can shrink either.
func (p *planner) handOver(canary *Set) {
	if p.interrupted() {
		return
	}
	switch {
	case p.retreat():
		p.enter(v1alpha1.PhaseScaling, p.lossMessage())
		return
	case !p.splitIs(p.weight()):
		p.enter(v1alpha1.PhaseShifting, "the split is not what it was")
		return
	}
	if stop := p.halted(); stop != nil {
		p.keepHold()
		p.sizeCanary()
		p.stop(stop, "the last gate is passed")
		return
	}
	t, want := p.seen.Target, p.mostReplicas()
	if canary.Ready < want || canary.Replicas != want {
		p.renewDeadline()
		// Not now. Had stable been released already, it goes back: an autoscaler must find it.
		p.keepHold()
		p.sizeCanary()
		p.waitForPods()
		return
	}
	p.releaseForHandover()
	p.do(GiveBackSet{Name: canary.Name, Handover: &Handover{
		Replicas: t.Replicas, MaxReplicas: t.Replicas + t.MaxSurge, Revision: p.nextRevision(canary),
	}})
	p.moving(v1alpha1.ReasonPromoting, "the canary's ReplicaSet is handed over to the Deployment")
	p.decision.Next = AtOnce
}

// releaseForHandover takes stable out of the Deployment that a full canary enters. A canary that is to
// grow enters beside it: the rolling update scales the one up and the other down.
func (p *planner) releaseForHandover() {
	if p.surgesAsDeployment() {
		p.keepHold()
		return
	}
	p.keepLabels()
	for i := range p.seen.Sets {
		if set := &p.seen.Sets[i]; set.Owned && !set.Deleting {
			p.do(ReleaseSet{Name: set.Name, Role: p.roleOf(set)})
		}
	}
}

// nextRevision continues the Deployment's history over all other sets, also the released ones that
// its controller does not see. That controller may have numbered a set of the history already, in the
// moment between the hold and its release.
func (p *planner) nextRevision(canary *Set) int64 {
	highest := int64(0)
	for i := range p.seen.Sets {
		if set := &p.seen.Sets[i]; set.Name != canary.Name {
			highest = max(highest, set.Revision)
		}
	}
	return max(highest+1, canary.Revision)
}

// finish comes after the handover: the canary is what the Deployment runs, whatever happens now.
func (p *planner) finish(canary *Set) {
	t, old := p.seen.Target, p.stableSet()
	p.note(fmt.Sprintf("ReplicaSet %s was handed over to the Deployment", canary.Name))
	switch {
	case !p.same(t.Template, canary.Template):
		p.promoted(canary, "promoted; the next template is already there")
	case t.Paused && t.Hold != "":
		p.do(Unpause{})
		p.wait(v1alpha1.ReasonPromoting, "the Deployment is let go")
	case old != nil && old.Owned && (old.Replicas > 0 || old.Pods > 0):
		p.follow(canary, old)
	case old != nil && !old.Owned && (old.Replicas > 0 || old.Pods > 0):
		p.drainOld(old)
	default:
		p.promoted(canary, "promoted: the analysed pods are the Deployment's")
	}
}

// follow keeps the weights what the ready pods are while the Deployment's rolling update replaces the
// one by the other. Nothing waits for proxies here: all gates are passed, and a stable pod that goes
// lets its open work end by itself.
func (p *planner) follow(canary, old *Set) {
	if ready := int64(canary.Ready) + int64(old.Ready); ready > 0 && p.seen.Split != nil {
		weight := int32(int64(p.total()) * int64(canary.Ready) / ready)
		routing := Routing{Stickiness: p.canary.Spec.Stickiness}
		if !p.splitSays(weight, routing) {
			p.writeSplit(weight, routing)
		}
	}
	p.wait(v1alpha1.ReasonPromoting, fmt.Sprintf(
		"the Deployment's rolling update goes on: %d pods of the promoted revision are ready, %d of the old one are left", canary.Ready, old.Pods))
}

// drainOld lets the open work of the old stable set end before its pods go. Without a split they
// would still be given new work.
func (p *planner) drainOld(old *Set) {
	if !p.splitIs(p.total()) {
		p.writeSplit(p.total(), Routing{Stickiness: p.canary.Spec.Stickiness})
		p.status.PhaseStartedAt = stamp(p.now)
		p.waitForProxies()
		return
	}
	if old.Replicas == 0 {
		p.wait(v1alpha1.ReasonPromoting, fmt.Sprintf("waiting for %d old pods to go", old.Pods))
		return
	}
	if !p.drained(old.Hash) {
		p.wait(v1alpha1.ReasonPromoting, p.drainMessage(old.Hash))
		return
	}
	p.do(ScaleSet{Name: old.Name})
	p.wait(v1alpha1.ReasonPromoting, "the old pods are drained and go")
}

func (p *planner) promoted(canary *Set, message string) {
	p.status.Stable = &v1alpha1.RevisionStatus{ReplicaSet: canary.Name, PodTemplateHash: canary.Hash}
	p.status.Canary, p.status.Weight, p.status.Step, p.status.StepStartedAt = nil, 0, 0, nil
	p.end(v1alpha1.OutcomePromoted, fmt.Sprintf("%s: %s", message, canary.Name))
	p.event(false, v1alpha1.ReasonPromoted, fmt.Sprintf("run %s: %s", p.status.Run, message))
	p.status.Phase, p.status.PhaseStartedAt = v1alpha1.PhaseStable, stamp(p.now)
	p.moving(v1alpha1.ReasonPromoting, message)
	p.decision.Next = AtOnce
}
