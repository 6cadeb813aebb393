// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/internal/fluxkit"
)

// brake is why a run goes no further for now. No brake ever stops a rollback.
type brake struct {
	reason, message string
	// until is when it opens by itself; zero when somebody must do something.
	until time.Time
	// stalled: the message names something that is wrong and must be mended.
	stalled bool
}

// halted stops every progress, promotion too.
func (p *planner) halted() *brake {
	if p.asked(v1alpha1.AnnotationPause) {
		return &brake{reason: v1alpha1.ReasonPaused, message: fmt.Sprintf(
			"run %s stands still at weight %s until the annotation %s is removed", p.status.Run, p.weightText(p.status.Weight), v1alpha1.AnnotationPause)}
	}
	return p.emergency()
}

// braked stops the beginning of a run and the rise of a weight. A return to what was stable is a
// rollback: only who names that very run may stop it.
func (p *planner) braked() *brake {
	if stop := p.halted(); stop != nil || p.returning() {
		return stop
	}
	if stop := frozen("spec.freezes", p.canary.Spec.Freezes, p.now); stop != nil {
		return stop
	}
	if stop := p.frozenByPolicy(); stop != nil {
		return stop
	}
	return p.dependent()
}

// rising is the brake on going to the step's weight, if that is higher than any that the run has had:
// what pods that died took off the canary comes back with them, whatever the brake.
func (p *planner) rising() *brake {
	if p.weight() <= max(p.status.Weight, p.highest()) {
		return nil
	}
	return p.braked()
}

// highest is the highest weight that all proxies ran in this run, as its record has it.
func (p *planner) highest() int32 {
	highest := int64(0)
	if p.run != nil {
		for _, entry := range p.run.Record.Entries {
			if entry.Phase == v1alpha1.PhaseHolding {
				highest = max(highest, int64(entry.Weight)*int64(p.total())/int64(totalOf(entry.TotalWeight)))
			}
		}
	}
	return int32(highest)
}

func (p *planner) returning() bool { return p.run != nil && p.run.Spec.Kind == v1alpha1.RunReturn }

// stop says what the run waits for, and looks again when that may be over.
func (p *planner) stop(stop *brake, where string) {
	message := stop.message
	if where != "" {
		message = where + "; " + message
	}
	p.moving(stop.reason, message)
	if stop.stalled {
		p.stand(fluxkit.Standing{Ready: metav1.ConditionFalse, Stalled: true, Reason: stop.reason, Message: message})
	}
	if !stop.until.IsZero() {
		p.wakeAt(stop.until)
	}
	if p.status.Phase != v1alpha1.PhaseHeld {
		p.soon() // the gate is judged on
	}
}

// dependent waits for the Canaries that this one depends on.
func (p *planner) dependent() *brake {
	if circle := p.seen.Circle; len(circle) > 0 {
		return &brake{reason: v1alpha1.ReasonInvalidSpec, stalled: true, message: fmt.Sprintf(
			"spec.dependsOn: %s is a circle in which everyone waits; remove one of the references", strings.Join(circle, " -> "))}
	}
	for _, other := range p.seen.Dependencies {
		why := ""
		switch other.Phase {
		case v1alpha1.PhaseStable:
			continue
		case "":
			why = "does not exist or was not looked at yet"
		case v1alpha1.PhaseRejected:
			why = "holds a rejected template"
		default:
			why = "is in a run, phase " + string(other.Phase)
		}
		return &brake{reason: v1alpha1.ReasonWaitingForDependency, message: fmt.Sprintf(
			"spec.dependsOn: Canary %s/%s %s; no step is begun until it is at rest", other.Namespace, other.Name, why)}
	}
	return nil
}

// fallBack keeps a run that was on its way to a higher weight under the gate of the one in force:
// pods are being made for a step that may not be begun, and nobody looks at the metrics meanwhile.
func (p *planner) fallBack() bool {
	stop := p.rising()
	if stop == nil || p.status.Weight == 0 {
		return false
	}
	p.status.Step = p.stepAt(p.status.Weight)
	p.enter(v1alpha1.PhaseHolding, stop.message)
	return true
}

// soon looks again after the interval, if nothing is to be done at once.
func (p *planner) soon() {
	if p.decision.Next == WhenChanged {
		p.decision.Next = NextInterval
	}
}

// wakeAt looks again at a time, if not before.
func (p *planner) wakeAt(at time.Time) {
	if p.decision.Wake.IsZero() || at.Before(p.decision.Wake) {
		p.decision.Wake = at
	}
}
