// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// maxNote is what the API takes as the text of an event.
const maxNote = 1024

// announce tells people what was decided and done.
func announce(recorder events.EventRecorder, canary *v1alpha1.Canary, list []Event) {
	for _, event := range list {
		kind := corev1.EventTypeNormal
		if event.Warning {
			kind = corev1.EventTypeWarning
		}
		note := event.Message
		if len(note) > maxNote {
			note = note[:maxNote]
		}
		recorder.Eventf(canary, nil, kind, event.Reason, "Rollout", "%s", note)
	}
}
