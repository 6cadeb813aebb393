// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/hook"
)

// hooked is a world about to release B, with a webhook whose receiver a test plays.
func hooked(t *testing.T, kind v1alpha1.WebhookType) *world {
	t.Helper()
	w := newWorld(1)
	w.push("A")
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() })
	w.canary.Spec.Webhooks = []v1alpha1.Webhook{{Name: "check", Type: kind, URL: "https://check.example"}}
	w.seen.Hooks = map[string]hook.Answer{}
	w.seen.Gate = judged(analysis.VerdictPass)
	w.push("B")
	return w
}

// play reconciles for some seconds; the receiver answers each question with a status.
func (w *world) play(seconds int, code func(AskHook) int) (asked []AskHook, told []TellHook) {
	for range seconds {
		w.now = w.now.Add(time.Second)
		w.controller()
		w.kubelet(true)
		if w.seen.Split != nil {
			w.seen.Split.Acknowledged = true
		}
		for _, effect := range Plan(&w.canary, w.observe(), w.now).Effects {
			switch e := effect.(type) {
			case AskHook:
				asked = append(asked, e)
				w.seen.Hooks[e.Key] = hook.Answer{Attempt: e.Attempt, Code: code(e), At: w.now}
				if code(e) == refused {
					w.seen.Hooks[e.Key] = hook.Answer{Attempt: e.Attempt, Refused: true, Err: "there is no Secret", At: w.now}
				}
			case TellHook:
				told = append(told, e)
			}
		}
		w.reconcile(false)
	}
	return asked, told
}

// refused is an answer of no receiver: the request could not be sent.
const refused = -1

func always(code int) func(AskHook) int { return func(AskHook) int { return code } }

// Each type stands at its place until its webhook agrees, and is asked again and again; agreed, it is in
// the record and the run goes on. (Flagger leaves a closed gate without a way out: rollout-peers §2a 12.)
func TestWebhooksThatConfirm(t *testing.T) {
	for kind, phase := range map[v1alpha1.WebhookType]v1alpha1.Phase{
		v1alpha1.WebhookConfirmRollout:         v1alpha1.PhaseHeld,
		v1alpha1.WebhookConfirmTrafficIncrease: v1alpha1.PhaseScaling,
		v1alpha1.WebhookConfirmPromotion:       v1alpha1.PhaseHolding,
	} {
		t.Run(string(kind), func(t *testing.T) {
			w := hooked(t, kind)
			asked, _ := w.play(300, always(403))
			require.Equal(t, phase, w.canary.Status.Phase)
			require.Greater(t, len(asked), 5)
			require.Equal(t, asked[0].Key, asked[1].Key, "the same question")
			require.Equal(t, int32(2), asked[1].Attempt)
			decision := Plan(&w.canary, w.observe(), w.now)
			require.Equal(t, v1alpha1.ReasonWaitingForWebhook, decision.Standing.Reason)
			require.Contains(t, decision.Standing.Message, "webhook check ("+string(kind)+")")
			require.Contains(t, decision.Standing.Message, "it answered 403")

			w.play(200, always(200))
			require.Equal(t, v1alpha1.PhaseStable, w.canary.Status.Phase)
			require.Equal(t, v1alpha1.OutcomePromoted, w.seen.Runs[0].Record.Outcome)
			agreed := hookEntries(w)
			require.NotEmpty(t, agreed)
			require.Equal(t, int32(200), agreed[0].Code)
			require.Equal(t, len(agreed), map[v1alpha1.WebhookType]int{
				v1alpha1.WebhookConfirmRollout: 1, v1alpha1.WebhookConfirmTrafficIncrease: 3, v1alpha1.WebhookConfirmPromotion: 1,
			}[kind])

			waiting := hooked(t, kind)
			waiting.play(100, always(403))
			waiting.push("A")
			waiting.play(60, always(403))
			require.Equal(t, v1alpha1.PhaseStable, waiting.canary.Status.Phase, "a revert in Git ends the wait")
		})
	}
}

func hookEntries(w *world) (found []v1alpha1.RunHook) {
	for _, entry := range w.seen.Runs[0].Record.Entries {
		if entry.Hook != nil {
			found = append(found, *entry.Hook)
		}
	}
	return found
}

// Tests that fail are a failed gate, after their retries and not before.
func TestWebhooksThatTest(t *testing.T) {
	for _, kind := range []v1alpha1.WebhookType{v1alpha1.WebhookPreRollout, v1alpha1.WebhookRollout} {
		t.Run(string(kind), func(t *testing.T) {
			w := hooked(t, kind)
			asked, _ := w.play(120, always(500))
			require.Len(t, asked, 3, "one attempt and two retries")
			require.Equal(t, v1alpha1.OutcomeRolledBack, w.seen.Runs[0].Record.Outcome)
			failed := hookEntries(w)
			require.Equal(t, int32(3), failed[len(failed)-1].Attempt)
			if kind == v1alpha1.WebhookPreRollout {
				for _, entry := range w.seen.Runs[0].Record.Entries {
					require.Zero(t, entry.Weight, "no user was sent to it")
				}
			}

			w = hooked(t, kind)
			w.play(300, func(e AskHook) int {
				if e.Attempt == 1 {
					return 503
				}
				return 204
			})
			require.Equal(t, v1alpha1.OutcomePromoted, w.seen.Runs[0].Record.Outcome)
		})
	}
}

// What cannot be sent is nobody's failure: the run waits, says so and tries again.
func TestWebhookThatIsRefused(t *testing.T) {
	w := hooked(t, v1alpha1.WebhookPreRollout)
	asked, _ := w.play(300, always(refused))
	decision := Plan(&w.canary, w.observe(), w.now)
	require.Equal(t, v1alpha1.PhaseScaling, decision.Status.Phase)
	require.Equal(t, v1alpha1.ReasonWebhookRefused, decision.Standing.Reason)
	require.Contains(t, decision.Standing.Message, "there is no Secret")
	require.Less(t, len(asked), 7, "once a minute")
	w.play(200, always(200))
	require.Equal(t, v1alpha1.OutcomePromoted, w.seen.Runs[0].Record.Outcome)
}

func asks(decision Decision) (found []AskHook) {
	for _, effect := range decision.Effects {
		if e, ok := effect.(AskHook); ok {
			found = append(found, e)
		}
	}
	return found
}

// 2xx of a rollback webhook takes the traffic back in whatever phase the run is; anything else does not.
func TestWebhookThatRecalls(t *testing.T) {
	for _, phase := range []v1alpha1.Phase{v1alpha1.PhaseHeld, v1alpha1.PhaseScaling, v1alpha1.PhaseShifting, v1alpha1.PhaseHolding} {
		t.Run(string(phase), func(t *testing.T) {
			w := at(t, phase)
			w.canary.Spec.Webhooks = []v1alpha1.Webhook{{Name: "alarm", Type: v1alpha1.WebhookRollback, URL: "https://alarm.example"}}
			ask := asks(Plan(&w.canary, w.observe(), w.now))
			require.Len(t, ask, 1)
			w.seen.Hooks = map[string]hook.Answer{ask[0].Key: {Attempt: 1, Code: 404, At: w.now}}
			decision := Plan(&w.canary, w.observe(), w.now)
			require.NotEqual(t, v1alpha1.PhaseRollingBack, decision.Status.Phase)
			require.NotEqual(t, WhenChanged, decision.Next, "it is asked again")
			w.seen.Hooks[ask[0].Key] = hook.Answer{Attempt: 2, Code: 200, At: w.now}
			decision = Plan(&w.canary, w.observe(), w.now)
			require.Equal(t, v1alpha1.PhaseRollingBack, decision.Status.Phase)
			require.Zero(t, decision.Status.Weight)
		})
	}
}

// Who only listens is told of each event and of the end, and never waited for.
func TestWebhooksThatListen(t *testing.T) {
	w := hooked(t, v1alpha1.WebhookEvent)
	_, told := w.play(150, always(200))
	require.Equal(t, v1alpha1.OutcomePromoted, w.seen.Runs[0].Record.Outcome)
	var reasons []string
	for _, e := range told {
		reasons = append(reasons, e.Message.Event.Reason)
	}
	for _, reason := range []string{v1alpha1.ReasonRunStarted, v1alpha1.ReasonHolding, v1alpha1.ReasonPromoted} {
		require.True(t, slices.Contains(reasons, reason), "%s in %v", reason, reasons)
	}

	w = hooked(t, v1alpha1.WebhookPostRollout)
	_, told = w.play(150, always(200))
	require.Len(t, told, 1)
	require.Equal(t, v1alpha1.OutcomePromoted, told[0].Message.Outcome)
}

// A return to what was stable is held up by nobody.
func TestReturnAsksNobody(t *testing.T) {
	w := hooked(t, v1alpha1.WebhookConfirmRollout)
	w.play(200, always(200))
	w.push("A")
	asked, _ := w.play(100, always(403))
	require.Empty(t, asked)
	require.Equal(t, v1alpha1.RunReturn, w.seen.Runs[0].Spec.Kind)
	require.Equal(t, v1alpha1.OutcomePromoted, w.seen.Runs[0].Record.Outcome)
}

// No webhook stops a rollback: questions come after the writes that take the traffic back, and are not
// asked any more.
func TestWebhooksDoNotDelayRollback(t *testing.T) {
	w := at(t, v1alpha1.PhaseHolding)
	w.canary.Spec.Webhooks = []v1alpha1.Webhook{
		{Name: "alarm", Type: v1alpha1.WebhookRollback, URL: "https://alarm.example"},
		{Name: "load", Type: v1alpha1.WebhookRollout, URL: "https://load.example"},
	}
	w.seen.Gate = judged(analysis.VerdictWait)
	effects := Plan(&w.canary, w.observe(), w.now).Effects
	require.IsType(t, AskHook{}, effects[len(effects)-1])
	require.IsType(t, AskHook{}, effects[len(effects)-2])
	w.seen.Gate = judged(analysis.VerdictFail)
	decision := Plan(&w.canary, w.observe(), w.now)
	require.Equal(t, v1alpha1.PhaseRollingBack, decision.Status.Phase)
	require.Empty(t, asks(decision))
}

// Requests that match reach the canary without any weight: webhooks are asked before all the same.
func TestWebhooksBeforeMatches(t *testing.T) {
	for _, kind := range []v1alpha1.WebhookType{v1alpha1.WebhookPreRollout, v1alpha1.WebhookConfirmTrafficIncrease} {
		w := hooked(t, kind)
		w.canary.Spec.Steps = []v1alpha1.Step{
			{Matches: []v1alpha1.RequestMatch{{Method: "GET"}}}, {Weight: 100},
		}
		asked, _ := w.play(30, always(refused))
		require.NotEmpty(t, asked)
		require.Equal(t, v1alpha1.PhaseScaling, w.canary.Status.Phase)
		require.False(t, w.seen.Split.reaches())
	}
}

// People who ask for promotion overrule webhooks; only a rollback is still heard.
func TestPromoteOverrulesWebhooks(t *testing.T) {
	for _, kind := range []v1alpha1.WebhookType{
		v1alpha1.WebhookConfirmRollout, v1alpha1.WebhookPreRollout, v1alpha1.WebhookRollout,
		v1alpha1.WebhookConfirmTrafficIncrease, v1alpha1.WebhookConfirmPromotion,
	} {
		w := hooked(t, kind)
		w.play(5, always(refused))
		w.canary.Annotations = map[string]string{v1alpha1.AnnotationPromote: w.canary.Status.Run}
		w.play(60, always(refused))
		require.Equal(t, v1alpha1.OutcomePromoted, w.seen.Runs[0].Record.Outcome, kind)
	}
}

// spec.onInconclusive: promote ends the wait for a verdict, not that for webhooks.
func TestInconclusiveAsksWebhooks(t *testing.T) {
	w := hooked(t, v1alpha1.WebhookConfirmPromotion)
	w.canary.Spec.OnInconclusive = v1alpha1.InconclusivePromote
	w.canary.Spec.MaxHold = &metav1.Duration{Duration: time.Second}
	w.seen.Gate = judged(analysis.VerdictWait)
	w.play(600, always(403))
	require.Equal(t, v1alpha1.PhaseHolding, w.canary.Status.Phase)
	w.play(60, always(200))
	require.Equal(t, v1alpha1.OutcomePromoted, w.seen.Runs[0].Record.Outcome)
}

// Who waits for a confirmation keeps no slot of a budget from others, nor one that he was given before
// the webhook came.
func TestConfirmationIsAwaitedWithoutASlot(t *testing.T) {
	w := hooked(t, v1alpha1.WebhookConfirmRollout)
	w.seen.Slots = []Slot{{Policy: "all"}}
	w.play(60, always(403))
	effects := func() (found []Effect) {
		for _, effect := range Plan(&w.canary, w.observe(), w.now).Effects {
			switch effect.(type) {
			case TakeSlot, ReleaseSlot:
				found = append(found, effect)
			}
		}
		return found
	}
	require.Equal(t, v1alpha1.PhaseHeld, w.canary.Status.Phase)
	require.Nil(t, w.canary.Status.Queue)
	require.Empty(t, effects())
	w.seen.Slots[0].Mine, w.seen.Slots[0].Held = true, true
	require.Equal(t, []Effect{ReleaseSlot{Policy: "all"}}, effects())
	w.seen.Slots[0].Mine, w.seen.Slots[0].Held = false, false
	w.play(20, always(200))
	require.Equal(t, []Effect{TakeSlot{Policy: "all", Run: "app-1"}}, effects())
}

// The pause before the next attempt is over at its very end, and not before.
func TestPausesOfWebhooksEnd(t *testing.T) {
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		kind   v1alpha1.WebhookType
		answer hook.Answer
		pause  time.Duration
	}{
		{"refused", v1alpha1.WebhookRollout, hook.Answer{Attempt: 1, Refused: true, At: at}, mendInterval},
		{"confirms", v1alpha1.WebhookConfirmRollout, hook.Answer{Attempt: 1, Code: 403, At: at}, confirmInterval},
		{"tests", v1alpha1.WebhookRollout, hook.Answer{Attempt: 2, Code: 500, At: at}, hook.Backoff(2)},
	} {
		t.Run(c.name, func(t *testing.T) {
			webhook := &v1alpha1.Webhook{Name: "check", Type: c.kind}
			require.False(t, again(webhook, c.answer, true, at.Add(c.pause-1)))
			require.True(t, again(webhook, c.answer, true, at.Add(c.pause)))
		})
	}
}
