// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/hook"
)

const (
	// confirmInterval is how often webhooks are asked that may change their mind.
	confirmInterval = 10 * time.Second
	// mendInterval is how often it is tried whether somebody has mended what refused a request.
	mendInterval = time.Minute
	// defaultHookTimeout and defaultHookRetries are those of a Canary that was written without defaults.
	defaultHookTimeout = 10 * time.Second
	defaultHookRetries = 2
)

// HookMessage is the body that webhooks get.
type HookMessage struct {
	Name      string               `json:"name"`
	Namespace string               `json:"namespace"`
	Phase     v1alpha1.Phase       `json:"phase"`
	Webhook   string               `json:"webhook"`
	Type      v1alpha1.WebhookType `json:"type"`
	Run       string               `json:"run"`
	Step      int32                `json:"step"`
	// Weight of the canary in percent, as it is now.
	Weight float64 `json:"weight"`
	// Stable and Canary are the revisions' pod template hashes.
	Stable   string              `json:"stable,omitempty"`
	Canary   string              `json:"canary,omitempty"`
	Source   *v1alpha1.RunSource `json:"source,omitempty"`
	Outcome  v1alpha1.Outcome    `json:"outcome,omitempty"`
	Event    *HookEvent          `json:"event,omitempty"`
	Metadata map[string]string   `json:"metadata,omitempty"`
}

// HookEvent is what a webhook of type event is told.
type HookEvent struct {
	Type    string `json:"type"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// agreed says whether all webhooks of a type agree at a moment of the run. If not, it says what is
// waited for, or ends the run by those that failed for good.
func (p *planner) agreed(kind v1alpha1.WebhookType, moment string) bool {
	failed, waiting := p.consult(kind, moment)
	switch {
	case failed != "":
		p.rollBack(v1alpha1.OutcomeRolledBack, failed)
		return false
	case waiting != nil:
		p.wait(waiting.Reason, waiting.Message)
		return false
	}
	return true
}

// consult looks at the answers of a type's webhooks and asks what must be asked. A way back is never
// held up by anybody, and people who ask for promotion overrule webhooks.
func (p *planner) consult(kind v1alpha1.WebhookType, moment string) (failed string, waiting *Event) {
	if p.run == nil || p.returning() || p.hurried() {
		return "", nil
	}
	for i := range p.canary.Spec.Webhooks {
		webhook := &p.canary.Spec.Webhooks[i]
		if webhook.Type != kind {
			continue
		}
		key := p.hookKey(webhook, moment)
		answer, asked := p.seen.Hooks[key]
		told, waits := p.weigh(webhook, answer, asked)
		if waits != nil {
			waiting = waits
			if again(webhook, answer, asked, p.now) {
				p.ask(webhook, key, answer.Attempt+1)
			}
			continue
		}
		p.answers = append(p.answers, v1alpha1.RunHook{
			Name: webhook.Name, Type: string(kind), Attempt: answer.Attempt, Code: int32(answer.Code), Error: answer.Err,
		})
		if told != "" {
			failed = told
		}
	}
	return failed, waiting
}

// weigh says what an answer means: neither failed nor waiting is agreement.
func (p *planner) weigh(webhook *v1alpha1.Webhook, answer hook.Answer, asked bool) (failed string, waiting *Event) {
	name := fmt.Sprintf("webhook %s (%s)", webhook.Name, webhook.Type)
	switch {
	case answer.Good(): // and with that neither pending nor never asked for
		return "", nil
	case !asked || answer.Pending && answer.Attempt <= 1:
		return "", &Event{Reason: v1alpha1.ReasonWaitingForWebhook, Message: "waiting for an answer of " + name}
	case answer.Refused:
		return "", &Event{Reason: v1alpha1.ReasonWebhookRefused, Message: fmt.Sprintf("%s cannot be called: %s", name, answer.Err)}
	case answer.Pending || confirms(webhook.Type) || answer.Attempt <= retries(webhook):
		return "", &Event{Reason: v1alpha1.ReasonWaitingForWebhook, Message: fmt.Sprintf("waiting for %s, attempt %d: %s", name, answer.Attempt, answerText(answer))}
	}
	return fmt.Sprintf("%s failed after %d attempts: %s", name, answer.Attempt, answerText(answer)), nil
}

func answerText(answer hook.Answer) string {
	switch {
	case answer.Pending:
		return "asked again"
	case answer.Err != "":
		return answer.Err
	}
	return fmt.Sprintf("it answered %d", answer.Code)
}

// again: the time has come for the next attempt.
func again(webhook *v1alpha1.Webhook, answer hook.Answer, asked bool, now time.Time) bool {
	switch {
	case !asked:
		return true
	case answer.Pending:
		return false
	case answer.Refused:
		return now.Sub(answer.At) >= mendInterval
	case confirms(webhook.Type):
		return now.Sub(answer.At) >= confirmInterval
	}
	return now.Sub(answer.At) >= hook.Backoff(answer.Attempt)
}

// confirms: the webhook is asked until it agrees.
func confirms(kind v1alpha1.WebhookType) bool {
	switch kind {
	case v1alpha1.WebhookConfirmRollout, v1alpha1.WebhookConfirmTrafficIncrease, v1alpha1.WebhookConfirmPromotion, v1alpha1.WebhookRollback:
		return true
	}
	return false
}

// mayShift: nobody objects to more requests for the canary, be it by weight or by what they are.
func (p *planner) mayShift() bool {
	opens := p.status.Weight == 0 && p.routing().reaches()
	if p.weight() <= p.status.Weight && !opens {
		return true
	}
	first := p.status.Step <= 0 && p.status.Weight == 0
	return (!first || p.agreed(v1alpha1.WebhookPreRollout, "begin")) &&
		p.agreed(v1alpha1.WebhookConfirmTrafficIncrease, p.stepMoment())
}

// mayLeave: nobody objects to the end of the step.
func (p *planner) mayLeave() bool {
	last := int(p.status.Step) == len(p.steps())-1
	return p.agreed(v1alpha1.WebhookRollout, p.stepMoment()) && (!last || p.agreed(v1alpha1.WebhookConfirmPromotion, "end"))
}

// leave goes on from a step when its webhooks agree.
func (p *planner) leave(why string) {
	if p.mayLeave() {
		p.leaveStep(why)
	}
}

// tested asks the step's webhooks as soon as its weight is in force, and ends the run when one fails.
func (p *planner) tested() bool {
	failed, _ := p.consult(v1alpha1.WebhookRollout, p.stepMoment())
	if failed != "" {
		p.rollBack(v1alpha1.OutcomeRolledBack, failed)
		return false
	}
	p.answers = nil
	return true
}

// recalled: a webhook asks for the traffic to be taken back.
func (p *planner) recalled() string {
	if p.returning() {
		return ""
	}
	for i := range p.canary.Spec.Webhooks {
		webhook := &p.canary.Spec.Webhooks[i]
		if webhook.Type != v1alpha1.WebhookRollback {
			continue
		}
		key := p.hookKey(webhook, "run")
		answer, asked := p.seen.Hooks[key]
		if answer.Good() {
			p.answers = append(p.answers, v1alpha1.RunHook{Name: webhook.Name, Type: string(webhook.Type), Attempt: answer.Attempt, Code: int32(answer.Code)})
			return fmt.Sprintf("webhook %s asks for a rollback", webhook.Name)
		}
		if again(webhook, answer, asked, p.now) {
			p.ask(webhook, key, answer.Attempt+1)
		}
		p.soon()
	}
	return ""
}

// ask adds the effect that asks a webhook, once in a decision.
func (p *planner) ask(webhook *v1alpha1.Webhook, key string, attempt int32) {
	if slices.ContainsFunc(p.asks, func(asked AskHook) bool { return asked.Key == key }) {
		return
	}
	p.asks = append(p.asks, AskHook{Webhook: *webhook, Key: key, Run: p.status.Run, Attempt: attempt, Message: p.hookMessage(webhook)})
}

// tellHooks tells those who only listen: of each event, and of the end of the run.
func (p *planner) tellHooks() {
	for i := range p.canary.Spec.Webhooks {
		webhook := &p.canary.Spec.Webhooks[i]
		switch {
		case webhook.Type == v1alpha1.WebhookEvent:
			for _, event := range p.decision.Events {
				message := p.hookMessage(webhook)
				message.Event = &HookEvent{Type: eventType(event), Reason: event.Reason, Message: event.Message}
				p.do(TellHook{Webhook: *webhook, Key: p.hookKey(webhook, p.sequence()+"/"+event.Reason), Run: p.status.Run, Message: message})
			}
		case webhook.Type == v1alpha1.WebhookPostRollout && p.record.Ended != nil:
			message := p.hookMessage(webhook)
			message.Outcome = p.record.Outcome
			p.do(TellHook{Webhook: *webhook, Key: p.hookKey(webhook, "end"), Run: p.status.Run, Message: message})
		}
	}
}

// sequence tells one moment of a run from another.
func (p *planner) sequence() string {
	if p.run == nil || p.run.Record.Head == nil {
		return fmt.Sprintf("%d/%s", p.canary.Generation, p.status.Phase)
	}
	return fmt.Sprintf("%d/%s", p.run.Record.Head.Number, p.status.Phase)
}

func (p *planner) stepMoment() string { return fmt.Sprintf("step-%d", p.status.Step) }

// hookKey names a question: asked again after a crash it is the same.
func (p *planner) hookKey(webhook *v1alpha1.Webhook, moment string) string {
	run := p.status.Run
	if p.run != nil && p.run.UID != "" {
		run = string(p.run.UID)
	}
	return strings.Join([]string{p.canary.Namespace, p.canary.Name, run, string(webhook.Type), webhook.Name, moment}, "/")
}

func (p *planner) hookMessage(webhook *v1alpha1.Webhook) HookMessage {
	message := HookMessage{
		Name: p.canary.Name, Namespace: p.canary.Namespace, Phase: p.status.Phase, Webhook: webhook.Name, Type: webhook.Type,
		Run: p.status.Run, Step: p.status.Step, Weight: percentOf(p.status.Weight, p.status.TotalWeight), Metadata: webhook.Metadata,
	}
	if p.status.Stable != nil {
		message.Stable = p.status.Stable.PodTemplateHash
	}
	if p.status.Canary != nil {
		message.Canary = p.status.Canary.PodTemplateHash
	}
	if p.run != nil {
		message.Source = p.run.Spec.Source
	}
	return message
}

// noteAnswers puts the webhooks' answers on which a transition rests into the record, before the entry
// of the transition.
func (p *planner) noteAnswers() {
	for i := range p.answers {
		answer := p.answers[i]
		text := answer.Error
		if text == "" {
			text = fmt.Sprintf("it answered %d", answer.Code)
		}
		entry := p.entry(fmt.Sprintf("webhook %s (%s): %s", answer.Name, answer.Type, text))
		entry.Hook = &answer
		p.record.Entries = append(p.record.Entries, Entry{RunEntry: entry})
	}
	p.answers = nil
}

func retries(webhook *v1alpha1.Webhook) int32 {
	if webhook.Retries == nil {
		return defaultHookRetries
	}
	return *webhook.Retries
}

// call makes a request of a webhook's message; the Secret's content is added by who may read it.
func (m HookMessage) call(webhook *v1alpha1.Webhook, key, run string) (hook.Call, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return hook.Call{}, fmt.Errorf("encode the message for webhook %s: %w", webhook.Name, err)
	}
	call := hook.Call{Request: hook.Request{URL: webhook.URL, Body: body, Key: key, Timeout: orDefault(webhook.Timeout.Duration, defaultHookTimeout)}}
	call.Owner.Namespace, call.Owner.Name = m.Namespace, m.Name
	call.Run, call.Retries = run, retries(webhook)
	return call, nil
}
