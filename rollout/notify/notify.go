// SPDX-License-Identifier: Apache-2.0

// Package notify decides what a Notifier tells and renders it for the service that takes it. It is
// PURE: values in, bytes out.
//
// It must not send anything: package hook does.
package notify

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Message is what is told; a Notifier of type generic sends it as it is.
type Message struct {
	// ID is the same each time the message is told.
	ID        string `json:"id"`
	Namespace string `json:"namespace"`
	Canary    string `json:"canary"`
	// Workload is its kind and name.
	Workload string         `json:"workload"`
	Run      string         `json:"run,omitempty"`
	Phase    v1alpha1.Phase `json:"phase"`
	// Weight of the canary in percent.
	Weight float64 `json:"weight"`
	// Severity is info or error.
	Severity string `json:"severity"`
	// Reason is one of docs/conditions.md, and Text a sentence for people.
	Reason string `json:"reason"`
	Text   string `json:"text"`
	// Source is the change that the run tries, if it is known.
	Source *v1alpha1.RunSource `json:"source,omitempty"`
	// Head of the run's record as "<number>:<hash>", to compare the record with later.
	Head string    `json:"head,omitempty"`
	Time time.Time `json:"time"`
}

// Wants says whether a Notifier tells an event of some severity and reason about a Canary with some
// labels. An error names the field that cannot be read.
func Wants(spec *v1alpha1.NotifierSpec, canary labels.Set, severity, reason string) (bool, error) {
	selector := labels.Everything()
	if spec.Canaries != nil {
		var err error
		if selector, err = metav1.LabelSelectorAsSelector(spec.Canaries); err != nil {
			return false, fmt.Errorf("spec.canaries: %w", err)
		}
	}
	loud := spec.Severity != v1alpha1.SeverityError || severity == v1alpha1.SeverityError
	named := len(spec.Events) == 0 || slices.Contains(spec.Events, reason)
	return loud && named && selector.Matches(canary), nil
}

// Render makes the body for a service.
func Render(kind v1alpha1.NotifierType, channel string, message *Message) ([]byte, error) {
	var body any
	switch kind {
	case v1alpha1.NotifierSlack:
		body = slack(channel, message)
	case v1alpha1.NotifierTeams:
		body = teams(message)
	case v1alpha1.NotifierDiscord:
		body = discord(message)
	case v1alpha1.NotifierGeneric:
		body = message
	default:
		return nil, fmt.Errorf("spec.type: %q is unknown; write slack, teams, discord or generic", kind)
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode a message for %s: %w", kind, err)
	}
	return raw, nil
}
