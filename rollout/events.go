// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// maxNote is what the API takes as the text of an event.
const maxNote = 1024

// notice is what people are told of a transition. A decision that has one of the reasons told already
// has said it better; else the first is told with the message of the transition.
type notice struct {
	from    string
	to      v1alpha1.Phase
	warning bool
	reasons []string
}

// notices is the table of all transitions: an event is a function of the transition, so that none can
// be missed. From lists phases; a pair that is not here is not a transition of the plan.
func notices() []notice {
	const running = "Held Scaling Shifting Holding AwaitingApproval Promoting"
	return []notice{
		{"Stable", v1alpha1.PhaseHeld, false, []string{v1alpha1.ReasonRunStarted}},
		{"Stable", v1alpha1.PhaseRejected, true, []string{v1alpha1.ReasonRolledBack}},
		{"Held Shifting Holding AwaitingApproval Promoting", v1alpha1.PhaseScaling, false, []string{v1alpha1.ReasonScaling}},
		{"Scaling Holding AwaitingApproval Promoting", v1alpha1.PhaseShifting, false, []string{v1alpha1.ReasonShifting}},
		{"Scaling Shifting", v1alpha1.PhaseHolding, false, []string{v1alpha1.ReasonHolding}},
		{"Holding", v1alpha1.PhaseAwaitingApproval, false, []string{v1alpha1.ReasonAwaitingApproval}},
		{"Holding AwaitingApproval", v1alpha1.PhasePromoting, false, []string{v1alpha1.ReasonPromoting}},
		{running, v1alpha1.PhaseRollingBack, false, []string{v1alpha1.ReasonRollingBack, v1alpha1.ReasonRolledBack}},
		{"RollingBack", v1alpha1.PhaseRejected, false, []string{v1alpha1.ReasonRejected}},
		{"Promoting", v1alpha1.PhaseStable, false, []string{v1alpha1.ReasonCancelled, v1alpha1.ReasonPromoted, v1alpha1.ReasonBypassed}},
		{"Held Scaling Shifting Holding AwaitingApproval RollingBack", v1alpha1.PhaseStable, false, []string{v1alpha1.ReasonCancelled, v1alpha1.ReasonPromoted, v1alpha1.ReasonBypassed}},
		{"Rejected", v1alpha1.PhaseStable, false, []string{v1alpha1.ReasonMovedOn, v1alpha1.ReasonBypassed, v1alpha1.ReasonRequested}},
	}
}

// standings are the reasons of conditions that people are told of when they begin to hold; true for
// those that somebody should look at.
func standings() map[string]bool {
	return map[string]bool{
		v1alpha1.ReasonMetricsUnavailable: true,
		v1alpha1.ReasonInsufficientCanary: true,
		v1alpha1.ReasonInsufficientStable: true,
		v1alpha1.ReasonTargetNotFound:     true,
		v1alpha1.ReasonTargetConflict:     true,
		v1alpha1.ReasonInvalidSpec:        true,
		v1alpha1.ReasonInconclusive:       true,
		v1alpha1.ReasonDeadlinePassed:     true,
		v1alpha1.ReasonWebhookRefused:     true,
		v1alpha1.ReasonSuspended:          false,
		v1alpha1.ReasonScaledToZero:       false,
		v1alpha1.ReasonPausedByPerson:     false,

		v1alpha1.ReasonRestartHeld:          false,
		v1alpha1.ReasonFrozen:               false,
		v1alpha1.ReasonEmergencyStop:        true,
		v1alpha1.ReasonWaitingForBudget:     false,
		v1alpha1.ReasonWaitingForDependency: false,
	}
}

// toldReasons are the reasons of all events that there are.
func toldReasons() []string {
	reasons := []string{
		v1alpha1.ReasonAdopted, v1alpha1.ReasonApproved, v1alpha1.ReasonDrainDeadlinePassed, v1alpha1.ReasonHeldForever,
		v1alpha1.ReasonInvalidRequest, v1alpha1.ReasonRecorded, v1alpha1.ReasonRecordNotSigned, v1alpha1.ReasonReleased,
		v1alpha1.ReasonRestarted,
	}
	for _, row := range notices() {
		reasons = append(reasons, row.reasons...)
	}
	for reason := range standings() {
		reasons = append(reasons, reason)
	}
	slices.Sort(reasons)
	return slices.Compact(reasons)
}

// noticeOf finds what is told of a transition.
func noticeOf(from, to v1alpha1.Phase) (notice, bool) {
	for _, row := range notices() {
		if row.to == to && slices.Contains(strings.Fields(row.from), string(from)) {
			return row, true
		}
	}
	return notice{}, false
}

// tell adds the event of the transition that was decided, and of a standing that is new.
func (p *planner) tell() {
	from := p.canary.Status.Phase
	if from == "" {
		from = v1alpha1.PhaseStable
	}
	if row, found := noticeOf(from, p.status.Phase); found && !p.told(row.reasons...) {
		p.event(row.warning, row.reasons[0], p.transition)
	}
	standing := p.decision.Standing
	if warning, telling := standings()[standing.Reason]; telling && !p.stoodFor(standing.Reason) && !p.told(standing.Reason) {
		p.event(warning, standing.Reason, standing.Message)
	}
}

// told: the decision has an event with one of the reasons.
func (p *planner) told(reasons ...string) bool {
	return slices.ContainsFunc(p.decision.Events, func(event Event) bool { return slices.Contains(reasons, event.Reason) })
}

// stoodFor: the Canary stands for a reason already.
func (p *planner) stoodFor(reason string) bool {
	for _, condition := range p.canary.Status.Conditions {
		if condition.Type == v1alpha1.ConditionReady {
			return condition.Reason == reason
		}
	}
	return false
}

// announce tells people what was decided and done.
func announce(recorder events.EventRecorder, canary *v1alpha1.Canary, list []Event) {
	for _, event := range list {
		recorder.Eventf(canary, nil, eventType(event), event.Reason, "Rollout", "%s", shortened(event.Message))
	}
}

func eventType(event Event) string {
	if event.Warning {
		return corev1.EventTypeWarning
	}
	return corev1.EventTypeNormal
}

// shortened cuts a text to what an event takes, between characters.
func shortened(text string) string {
	if len(text) <= maxNote {
		return text
	}
	return strings.ToValidUTF8(text[:maxNote], "")
}
