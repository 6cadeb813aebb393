// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// proxyDeadline is how long proxies may take to acknowledge weights before they are named.
const proxyDeadline = 30 * time.Second

// held sets a run up: the Deployment owns stable and nothing else, stable is whole, and all traffic
// is pinned to it by a split that every proxy runs. Only then may canary pods exist.
func (p *planner) held() {
	if p.interrupted() {
		return
	}
	p.keepHold()
	stop := p.braked()
	switch {
	case stop != nil:
		p.stop(stop, "a new template is held")
	case !p.stableWhole():
		p.waitForStable()
	case !p.pinned():
		p.writeSplit(0, Routing{})
		p.waitForProxies()
	case !p.seen.Split.Acknowledged:
		p.waitForProxies()
	default:
		p.emptyStrangers()
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
	canary, stop := p.canarySet(), p.rising()
	switch {
	case lost || canary == nil || canary.Ready < p.need():
		p.waitForPods()
	case !p.stableWhole():
		p.waitForStable()
	case p.showPreview():
		p.waitForProxies()
	case stop != nil:
		p.status.PhaseStartedAt = stamp(p.now) // what the brake takes is not the pods' fault
		p.stop(stop, "the canary's pods are ready")
	default:
		p.enter(v1alpha1.PhaseShifting, fmt.Sprintf("%d canary pods are ready for weight %s", canary.Ready, p.weightText(p.weight())))
	}
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
	case p.status.Phase != v1alpha1.PhaseHolding:
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
	case p.canary.Spec.SkipAnalysis:
		p.sitOut()
	default:
		p.judge()
	}
}

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
		p.leaveStep(why)
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
		p.leaveStep(judgement.Reason)
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

// leaveStep goes on to the next step or, after the last, to the handover.
func (p *planner) leaveStep(why string) {
	last, stop := int(p.status.Step) == len(p.steps())-1, p.halted()
	if !last && stop == nil {
		stop = p.braked()
	}
	if stop != nil {
		p.stop(stop, fmt.Sprintf("weight %s is passed: %s", p.weightText(p.status.Weight), why))
		return
	}
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

// evidenceAnew leaves out what happened until stable has its pods again: no revision could answer.
func (p *planner) evidenceAnew() {
	if p.status.EvidenceSince != nil && p.status.Weight == 0 && !p.stableWhole() {
		p.status.EvidenceSince = stamp(p.now)
	}
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

// pinned: no request reaches the canary.
func (p *planner) pinned() bool { return p.splitIs(0) && !p.seen.Split.Routing.reaches() }

// splitSays: the split has this run's revisions, a weight and a routing.
func (p *planner) splitSays(weight int32, routing Routing) bool {
	return p.splitIs(weight) && p.seen.Split.Routing.equal(routing)
}

// splitIs says whether the split has this run's revisions and a weight.
func (p *planner) splitIs(weight int32) bool {
	split := p.seen.Split
	return split != nil && split.StableHash == p.status.Stable.PodTemplateHash &&
		split.CanaryHash == p.status.Canary.PodTemplateHash && split.CanaryWeight == weight &&
		(weight == 0 || totalOf(split.TotalWeight) == p.total())
}

func (p *planner) writeSplit(weight int32, routing Routing) {
	p.status.Weight, p.status.TotalWeight = weight, p.total()
	p.do(WriteSplit{
		StableHash: p.status.Stable.PodTemplateHash, CanaryHash: p.status.Canary.PodTemplateHash,
		CanaryWeight: weight, TotalWeight: p.total(), Routing: routing,
	})
}

// repairSplit writes a split again that somebody changed or deleted.
func (p *planner) repairSplit() {
	weight, canary := p.status.Weight, p.canarySet()
	if canary == nil || canary.Ready < needed(weight, p.total(), p.seen.Target.Replicas) {
		weight = 0
	}
	p.status.Weight = weight
	p.writeSplit(weight, p.inForce())
	p.waitForProxies()
}

func (p *planner) waitForProxies() {
	message := fmt.Sprintf("waiting for the proxies to acknowledge weight %s", p.weightText(p.status.Weight))
	if split := p.seen.Split; split != nil && p.since() >= proxyDeadline {
		message += fmt.Sprintf("; %d of %d have not after %s: %s", len(split.Laggards), split.Carrying,
			p.since().Round(time.Second), strings.Join(split.Laggards, ", "))
	}
	p.wait(v1alpha1.ReasonWaitingForProxies, message)
}
