// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Times of a Canary that was written without defaults.
const (
	defaultDrain             = 30 * time.Second
	defaultRollbackWindow    = 24 * time.Hour
	defaultHeldDeadline      = 24 * time.Hour
	defaultShiftingDeadline  = 10 * time.Minute
	defaultApprovalDeadline  = 24 * time.Hour
	defaultPromotingDeadline = 30 * time.Minute
	defaultMaxHold           = 2 * time.Hour
)

func durationOr(value *metav1.Duration, fallback time.Duration) time.Duration {
	if value == nil {
		return fallback
	}
	return value.Duration
}

// deadline of the current phase and its field; 0 when it has none.
func (p *planner) deadline() (time.Duration, string) {
	deadlines := p.canary.Spec.Deadlines
	switch p.status.Phase {
	case v1alpha1.PhaseHeld:
		return durationOr(deadlines.Held, defaultHeldDeadline), "held"
	case v1alpha1.PhaseScaling:
		return p.scalingDeadline(), "scaling"
	case v1alpha1.PhaseShifting:
		return durationOr(deadlines.Shifting, defaultShiftingDeadline), "shifting"
	case v1alpha1.PhaseAwaitingApproval:
		return durationOr(deadlines.Approval, defaultApprovalDeadline), "approval"
	case v1alpha1.PhasePromoting:
		return durationOr(deadlines.Promoting, defaultPromotingDeadline), "promoting"
	}
	return 0, ""
}

// scalingDeadline is how long new pods may take to become ready.
func (p *planner) scalingDeadline() time.Duration {
	return durationOr(p.canary.Spec.Deadlines.Scaling, p.seen.Target.ProgressDeadline)
}

// late calls a phase late that lasts longer than its deadline. Its message keeps saying what is waited
// for. What people or the calendar keep waiting is not late.
func (p *planner) late() {
	deadline, field := p.deadline()
	standing := &p.decision.Standing
	if deadline == 0 || p.since() < deadline || !standing.Reconciling {
		return
	}
	switch standing.Reason {
	case v1alpha1.ReasonPaused, v1alpha1.ReasonFrozen, v1alpha1.ReasonEmergencyStop, v1alpha1.ReasonScaledToZero:
		return
	case v1alpha1.ReasonInsufficientCanary:
		return // it says itself that it is late, and why nobody could make the pods
	}
	standing.Message = fmt.Sprintf("phase %s lasts since %s, longer than spec.deadlines.%s (%s): %s", p.status.Phase,
		p.status.PhaseStartedAt.UTC().Format(time.RFC3339), field, deadline, standing.Message)
	standing.Reason = v1alpha1.ReasonDeadlinePassed
}

// inconclusive ends the wait for a verdict when spec.maxHold is over. It says whether it is.
func (p *planner) inconclusive(judgement analysis.Judgement) bool {
	over := p.since() >= durationOr(p.canary.Spec.MaxHold, defaultMaxHold)+p.step(p.status.Step).Hold.Duration
	if p.status.Phase == v1alpha1.PhaseAwaitingApproval {
		// The step has had its verdict; only who goes on without one goes on here.
		over = p.canary.Spec.OnInconclusive == v1alpha1.InconclusivePromote
	}
	if !over {
		return false
	}
	message := fmt.Sprintf("weight %s has no verdict after %s (spec.maxHold); %s: %s",
		p.weightText(p.status.Weight), p.since().Round(time.Second), judgement.Verdict, judgement.Reason)
	switch p.canary.Spec.OnInconclusive {
	case v1alpha1.InconclusiveRollback:
		p.rollBack(v1alpha1.OutcomeRolledBack, message)
	case v1alpha1.InconclusivePromote:
		p.leave(message)
	case v1alpha1.InconclusiveHold, "":
		p.wait(v1alpha1.ReasonInconclusive, message)
	default:
		p.stalled(v1alpha1.ReasonInvalidSpec, fmt.Sprintf("spec.onInconclusive: %q is unknown; write hold, rollback or promote", p.canary.Spec.OnInconclusive))
	}
	return true
}
