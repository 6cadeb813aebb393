// SPDX-License-Identifier: Apache-2.0

package model

import (
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
	further := entered(s, v1alpha1.PhasePromoting) ||
		s.canary.Status.Phase == v1alpha1.PhaseHeld && entered(s, v1alpha1.PhaseScaling) ||
		s.canary.Status.Phase == v1alpha1.PhaseScaling && entered(s, v1alpha1.PhaseShifting) && s.rises() ||
		s.canary.Status.Phase == v1alpha1.PhaseHolding && entered(s, v1alpha1.PhaseScaling) && s.decision.Status.Step > s.canary.Status.Step
	if further {
		return "the run goes on while " + s.look.hooks.String()
	}
	return ""
}

// hooksReject: a webhook takes the traffic back, or one that tests has failed at its moment.
func (s *step) hooksReject() bool {
	switch s.canary.Status.Phase {
	case v1alpha1.PhaseScaling, v1alpha1.PhaseHolding:
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
