// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Routing is what a split says beside its weights. The zero value says nothing.
type Routing struct {
	// Matches are the requests that go to the canary whatever its weight.
	Matches []v1alpha1.RequestMatch
	// Mirror has requests copied to the canary.
	Mirror *v1alpha1.Mirror
	// Stickiness keeps users at a revision.
	Stickiness *v1alpha1.Stickiness
}

// reaches says whether a request gets to the canary, be it a copy, without any weight.
func (r Routing) reaches() bool { return len(r.Matches) > 0 || r.Mirror != nil }

func (r Routing) equal(other Routing) bool { return equality.Semantic.DeepEqual(r, other) }

// reaches says whether a split lets a request get to the canary.
func (s *Split) reaches() bool { return s.CanaryWeight > 0 || s.Routing.reaches() }

// steps of this run. A return has one, without a gate.
func (p *planner) steps() []v1alpha1.Step {
	if p.returning() {
		return []v1alpha1.Step{{Weight: p.total()}}
	}
	return p.canary.Spec.Steps
}

// step is one of them; one without anything when there is none of that index.
func (p *planner) step(i int32) v1alpha1.Step {
	if steps := p.steps(); i >= 0 && int(i) < len(steps) {
		return steps[i]
	}
	return v1alpha1.Step{Weight: p.status.Weight}
}

// total is what weights are shares of.
func (p *planner) total() int32 { return totalOf(p.canary.Spec.TotalWeight) }

// weight of the current step; before the first step of an edited list, the weight that is in force.
func (p *planner) weight() int32 { return p.weightAt(p.status.Step) }

func (p *planner) weightAt(i int32) int32 { return min(p.step(i).Weight, p.mostWeight()) }

// mostWeight is what the largest canary can carry.
func (p *planner) mostWeight() int32 {
	if !p.surgesAsDeployment() || p.seen.Target.Replicas == 0 {
		return p.total()
	}
	return carried(p.mostReplicas(), p.total(), p.seen.Target.Replicas)
}

// mostReplicas is how large the canary may grow.
func (p *planner) mostReplicas() int32 {
	if p.surgesAsDeployment() {
		return min(p.seen.Target.MaxSurge, p.seen.Target.Replicas)
	}
	return p.seen.Target.Replicas
}

func (p *planner) surgesAsDeployment() bool { return p.canary.Spec.Surge == v1alpha1.SurgeDeployment }

// need is how many ready pods the current step asks of the canary.
func (p *planner) need() int32 {
	step, replicas := p.step(p.status.Step), p.seen.Target.Replicas
	need := needed(p.weight(), p.total(), replicas)
	if p.routing().reaches() {
		need = max(need, 1)
	}
	if step.Mirror != nil {
		need = max(need, needed(step.Mirror.Percent, v1alpha1.DefaultTotalWeight, replicas))
	}
	if step.Replicas != nil {
		// What is no percentage asks for no more: the API server lets none in.
		asked, err := intstr.GetScaledValueFromIntOrPercent(step.Replicas, int(replicas), true)
		if err == nil {
			need = max(need, int32(min(asked, int(replicas))))
		}
	}
	if p.surgesAsDeployment() && int(p.status.Step) == len(p.steps())-1 {
		need = p.mostReplicas() // All that the handover starts from.
	}
	return min(need, p.mostReplicas())
}

// routing of the current step. A return is no strategy: users stay where they are, and that is all.
func (p *planner) routing() Routing { return p.routingAt(p.status.Step) }

func (p *planner) routingAt(i int32) Routing {
	spec, step := p.canary.Spec, p.step(i)
	if p.returning() {
		return Routing{Stickiness: spec.Stickiness}
	}
	return Routing{Matches: slices.Concat(spec.Preview, step.Matches), Mirror: step.Mirror, Stickiness: spec.Stickiness}
}

// inForce is the routing that goes with the weight in force while pods are made for the next: that of
// the step before. Nobody reaches a canary without weight, but by the preview.
func (p *planner) inForce() Routing {
	before := p.status.Step - 1
	switch {
	case p.status.Weight == 0:
		return Routing{}
	case before >= 0 && p.weightAt(before) == p.status.Weight:
		return p.routingAt(before)
	}
	return p.routing()
}

// showPreview lets the preview's requests reach a canary that has its pods and no weight yet; it
// returns true when that had still to be said.
func (p *planner) showPreview() bool {
	preview := Routing{Matches: p.canary.Spec.Preview, Stickiness: p.canary.Spec.Stickiness}
	if len(preview.Matches) == 0 || p.returning() || p.seen.Split.reaches() {
		return false
	}
	p.writeSplit(0, preview)
	return true
}

// onlyMirrors: no request that counts reaches the canary in a step.
func onlyMirrors(canary *v1alpha1.Canary, step v1alpha1.Step) bool {
	return step.Weight == 0 && len(step.Matches) == 0 && len(canary.Spec.Preview) == 0
}

// weightText is a weight for people: percent, or parts of what the Canary counts in; and what else
// reaches the canary when it has none.
func (p *planner) weightText(weight int32) string {
	text := strconv.Itoa(int(weight))
	if p.total() != v1alpha1.DefaultTotalWeight {
		text = fmt.Sprintf("%d of %d", weight, p.total())
	}
	step := p.step(p.status.Step)
	switch {
	case weight > 0 || step.Weight > 0 || p.status.Step < 0:
		return text
	case onlyMirrors(p.canary, step):
		return text + " (copies only, which count for no gate)"
	}
	return text + " (matches only, not compared with stable)"
}

// rescale keeps the weight in force when totalWeight was edited, rounded down: it never jumps up.
func (p *planner) rescale() {
	before := totalOf(p.status.TotalWeight)
	if before == p.total() || p.status.Weight == 0 {
		return
	}
	p.status.Weight = int32(int64(p.status.Weight) * int64(p.total()) / int64(before))
	p.status.TotalWeight = p.total()
}

// align continues at the highest step not above the current weight after the steps were edited; of
// several at the current weight, at the first or the one that it is at.
func (p *planner) align() {
	p.status.Step = min(p.status.Step, int32(len(p.steps()))-1)
	if p.canary.Generation == p.canary.Status.ObservedGeneration || p.returning() {
		return
	}
	step := p.stepAtWeight()
	unchanged := step == p.status.Step && (p.weight() == p.status.Weight || p.status.Weight == 0)
	// Climbing: the step below is the one in force, the next is being prepared as before.
	climbing := p.status.Weight > 0 && p.status.Phase == v1alpha1.PhaseScaling && step+1 == p.status.Step
	if unchanged || climbing {
		return
	}
	p.status.Step = step
	if p.status.Phase == v1alpha1.PhaseHolding || p.status.Phase == v1alpha1.PhaseAwaitingApproval {
		p.enter(v1alpha1.PhaseShifting, fmt.Sprintf("the steps were edited; going on at weight %s", p.weightText(p.weight())))
	}
}

// stepAtWeight is the step to continue at; -1 when all steps are above the current weight.
func (p *planner) stepAtWeight() int32 {
	step := int32(-1)
	for i := range p.steps() {
		at := p.weightAt(int32(i))
		if at < p.status.Weight || at == p.status.Weight && (step < 0 || p.weightAt(step) < at || int32(i) <= p.status.Step) {
			step = int32(i)
		}
	}
	if p.status.Weight == 0 {
		step = max(0, step)
	}
	return step
}
