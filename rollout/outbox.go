// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/notify"
)

// Messages to Notifiers are written into the Canary's status together with the transition that they
// tell of, and leave it when they were delivered or given up. So a transition that stands in the status
// is told, whenever the controller dies: not before it stood there, at least once after.

// maxMessages bounds what of one Canary is kept to be told; the CRD's text says the number too.
const maxMessages = 20

// delivery is one message to one Notifier.
type delivery struct {
	message  string
	notifier types.UID
}

// newMessages are the messages of what was decided, as far as somebody wants them. The resource version
// on which the status will be written makes their names new. It is PURE.
func newMessages(canary *v1alpha1.Canary, status *v1alpha1.CanaryStatus, told []Event, at metav1.Time, notifiers []v1alpha1.Notifier) []v1alpha1.Message {
	var found []v1alpha1.Message
	for i, event := range told {
		if !slices.ContainsFunc(notifiers, func(one v1alpha1.Notifier) bool { return wants(&one, canary, severity(event), event.Reason) }) {
			continue
		}
		found = append(found, v1alpha1.Message{
			ID: fmt.Sprintf("%s/%s/%d", canary.UID, canary.ResourceVersion, i), Time: at,
			Severity: severity(event), Reason: event.Reason, Text: shortened(event.Message),
			Phase: status.Phase, Run: status.Run, Weight: status.Weight, TotalWeight: status.TotalWeight,
		})
	}
	return found
}

// wants: a Notifier whose selector cannot be read wants nothing, and its conditions say so.
func wants(notifier *v1alpha1.Notifier, canary *v1alpha1.Canary, severity, reason string) bool {
	wanted, err := notify.Wants(&notifier.Spec, labels.Set(canary.Labels), severity, reason)
	return err == nil && wanted
}

func severity(event Event) string {
	if event.Warning {
		return v1alpha1.SeverityError
	}
	return v1alpha1.SeverityInfo
}

// unsettled are the messages that some Notifier has yet to take. settled says what became of a delivery.
func unsettled(canary *v1alpha1.Canary, notifiers []v1alpha1.Notifier, settled func(delivery) bool) []v1alpha1.Message {
	var left []v1alpha1.Message
	for _, message := range canary.Status.Messages {
		if slices.ContainsFunc(notifiers, func(one v1alpha1.Notifier) bool {
			return wants(&one, canary, message.Severity, message.Reason) && !settled(delivery{message.ID, one.UID})
		}) {
			left = append(left, message)
		}
	}
	return left
}

// nextFor is the oldest message that a Notifier has yet to take: they are told in order, so that nobody
// reads of a promotion before its run began.
func nextFor(notifier *v1alpha1.Notifier, canary *v1alpha1.Canary, settled func(delivery) bool) *v1alpha1.Message {
	for i := range canary.Status.Messages {
		message := &canary.Status.Messages[i]
		if wants(notifier, canary, message.Severity, message.Reason) && !settled(delivery{message.ID, notifier.UID}) {
			return message
		}
	}
	return nil
}

// newest keeps what a status has room for.
func newest(messages []v1alpha1.Message) (kept, dropped []v1alpha1.Message) {
	over := max(0, len(messages)-maxMessages)
	return messages[over:], messages[:over]
}

// missed are the Notifiers that were to be told messages and never were, once for each.
func missed(canary *v1alpha1.Canary, messages []v1alpha1.Message, notifiers []v1alpha1.Notifier, begun func(delivery) bool) (names []types.NamespacedName) {
	for i := range notifiers {
		one := &notifiers[i]
		for _, message := range messages {
			if wants(one, canary, message.Severity, message.Reason) && !begun(delivery{message.ID, one.UID}) {
				names = append(names, types.NamespacedName{Namespace: one.Namespace, Name: one.Name})
			}
		}
	}
	return names
}

// rendered is a message with what is known of its run by now.
func rendered(canary *v1alpha1.Canary, run *v1alpha1.CanaryRun, message *v1alpha1.Message) *notify.Message {
	told := &notify.Message{
		ID: message.ID, Namespace: canary.Namespace, Canary: canary.Name,
		Workload: canary.Spec.TargetRef.Kind + " " + canary.Spec.TargetRef.Name,
		Run:      message.Run, Phase: message.Phase, Weight: percentOf(message.Weight, message.TotalWeight),
		Severity: message.Severity, Reason: message.Reason, Text: message.Text, Time: message.Time.UTC(),
	}
	if run == nil {
		return told
	}
	told.Source = run.Spec.Source
	if head := run.Record.Head; head != nil {
		told.Head = fmt.Sprintf("%d:%s", head.Number, head.Hash)
	}
	return told
}
