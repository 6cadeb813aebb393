// SPDX-License-Identifier: Apache-2.0

package model

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
	"github.com/sluice-mesh/sluice/rollout/hook"
)

// reply is what all webhooks of a Canary do at one look. What one has said before is no part of a
// state: a controller that was started anew knows of no answer.
type reply uint8

const (
	agree  reply = iota
	silent       // no answer is there yet
	refuse       // those that confirm say no, those that test fail for good
	recall       // those that may take the traffic back do
)

func (r reply) String() string {
	return [...]string{"webhooks agree", "webhooks are silent", "webhooks refuse", "a webhook recalls"}[r]
}

// webhooks are one of each type, but for that of events: which were told already is in conditions,
// which are not modelled.
func webhooks() []v1alpha1.Webhook {
	var all []v1alpha1.Webhook
	for _, kind := range []v1alpha1.WebhookType{
		v1alpha1.WebhookConfirmRollout, v1alpha1.WebhookPreRollout, v1alpha1.WebhookRollout, v1alpha1.WebhookConfirmTrafficIncrease,
		v1alpha1.WebhookConfirmPromotion, v1alpha1.WebhookPostRollout, v1alpha1.WebhookRollback,
	} {
		all = append(all, v1alpha1.Webhook{Name: appName + "-" + string(kind), Type: kind, URL: "https://hooks.example"})
	}
	return all
}

// approve makes each step ask for a word, and gives it unless it is missing.
func (w *world) approve(canary *v1alpha1.Canary, seen *rollout.Observed, l look) {
	for i := range canary.Spec.Steps {
		canary.Spec.Steps[i].Approval = &v1alpha1.StepApproval{Count: 1}
	}
	if l.unapproved || canary.Status.Canary == nil {
		return
	}
	seen.StampedSince = w.now.Add(-time.Hour)
	digest := rollout.StepsDigest(canary.Spec.Steps)
	for i := range canary.Spec.Steps {
		given := v1alpha1.Approval{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(w.now)}}
		given.Spec = v1alpha1.ApprovalSpec{
			Canary: canary.Name, Run: canary.Status.Run, Step: int32(i), Revision: canary.Status.Canary.PodTemplateHash,
			StepsDigest: digest,
		}
		given.Approver = &v1alpha1.Approver{Username: "alice"}
		seen.Approvals = append(seen.Approvals, given)
	}
}

// approved: a step is left only with people's word.
func approved(s *step) string {
	if s.look.unapproved && s.stepIsLeft() && !s.returns() && s.canary.Status.Step >= 0 {
		return "a step is left without people's word"
	}
	return ""
}

// govern gives a run its slot of a budget, unless none is free, and stops it in an emergency. Who has
// which slots is tried in package rollout; here a run has one from its beginning on.
func govern(canary *v1alpha1.Canary, seen *rollout.Observed, l look) {
	slot := rollout.Slot{Policy: "all", Limit: "maxConcurrentRuns 1"}
	switch canary.Status.Phase {
	case "", v1alpha1.PhaseStable, v1alpha1.PhaseRejected:
	case v1alpha1.PhaseHeld:
		slot.Mine, slot.Held = !l.slotless, !l.slotless
	default:
		slot.Mine, slot.Held = true, true
	}
	if l.slotless {
		slot.Position = 1
	}
	seen.Slots = []rollout.Slot{slot}
	if l.emergency {
		policy := v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Name: "all"}}
		policy.Spec.EmergencyStop = &v1alpha1.EmergencyStop{Mode: v1alpha1.EmergencyRollBack, Reason: "because"}
		seen.Policies = []v1alpha1.RolloutPolicy{policy}
	}
}

// admitted: a run begins only with a slot.
func admitted(s *step) string {
	if s.look.slotless && !s.returns() && s.canary.Status.Phase == v1alpha1.PhaseHeld && entered(s, v1alpha1.PhaseScaling) {
		return "a run begins without a slot"
	}
	return ""
}

// evacuated: in an emergency no run goes on, but a way back.
func evacuated(s *step) string {
	before, after := s.canary.Status.Phase, s.decision.Status.Phase
	going := func(phase v1alpha1.Phase) bool {
		return judges(phase) || phase == v1alpha1.PhaseScaling || phase == v1alpha1.PhaseShifting
	}
	if s.look.emergency && !s.returns() && s.run() != nil && (going(before) || before == v1alpha1.PhaseHeld) && going(after) {
		return "a run goes on in an emergency"
	}
	return ""
}

// answered asks for decisions until all that is asked is answered.
func (w *world) answered(canary *v1alpha1.Canary, seen *rollout.Observed, replied reply) rollout.Decision {
	decision := rollout.Plan(canary, *seen, w.now)
	if replied == silent {
		return decision
	}
	seen.Hooks = map[string]hook.Answer{}
	for {
		known := len(seen.Hooks)
		for _, effect := range decision.Effects {
			if ask, ok := effect.(rollout.AskHook); ok {
				seen.Hooks[ask.Key] = hook.Answer{Attempt: 3, Code: replied.code(ask.Webhook.Type), At: w.now}
			}
		}
		if len(seen.Hooks) == known {
			return decision
		}
		decision = rollout.Plan(canary, *seen, w.now)
	}
}

// code is the status that a webhook of a type answers with.
func (r reply) code(kind v1alpha1.WebhookType) int {
	if r == refuse || kind == v1alpha1.WebhookRollback && r != recall {
		return 500
	}
	return 200
}

// webhooksAgree: a run goes on only when those that it asks let it.
func webhooksAgree(s *step) string {
	if s.look.hooks == agree || s.returns() {
		return ""
	}
	further := s.stepIsLeft() ||
		s.canary.Status.Phase == v1alpha1.PhaseHeld && entered(s, v1alpha1.PhaseScaling) ||
		s.canary.Status.Phase == v1alpha1.PhaseScaling && entered(s, v1alpha1.PhaseShifting) && s.rises()
	if further {
		return "the run goes on while " + s.look.hooks.String()
	}
	return ""
}

// hooksReject: a webhook takes the traffic back, or one that tests has failed at its moment.
func (s *step) hooksReject() bool {
	switch s.canary.Status.Phase {
	case v1alpha1.PhaseScaling, v1alpha1.PhaseHolding, v1alpha1.PhaseAwaitingApproval:
		return !s.returns() && (s.look.hooks == recall || s.look.hooks == refuse)
	}
	return !s.returns() && s.look.hooks == recall
}

func (s *step) returns() bool { return s.run() != nil && s.run().Return }

// rises: the step that is begun has more weight than the one in force.
func (s *step) rises() bool {
	at := s.decision.Status.Step
	return at >= 0 && int(at) < len(s.canary.Spec.Steps) && s.canary.Spec.Steps[at].Weight > s.canary.Status.Weight
}
