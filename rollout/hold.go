// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// HoldDecision is what admission does to an update of a Deployment.
type HoldDecision struct {
	// Pause: spec.paused becomes true in the same request.
	Pause bool
	// Label is the value that LabelHold gets; empty leaves it as it is.
	Label string
}

// Hold decides whether an update of a Deployment is held. It is PURE: a function of the two objects
// and their labels; annotations are not ours to read. config/webhook/hold-policy.yaml says the same
// in CEL, and one table of cases tests both.
func Hold(old, updated *appsv1.Deployment) HoldDecision {
	switch {
	// A request that loses the label together with a new template, as kubectl replace does, is held.
	case updated.Labels[v1alpha1.LabelCanary] == "" && old.Labels[v1alpha1.LabelCanary] == "",
		updated.Labels[v1alpha1.LabelManage] == v1alpha1.ManageOff,
		!updated.DeletionTimestamp.IsZero(),
		!changes(old, updated):
		return HoldDecision{}
	}
	decision := HoldDecision{Pause: true}
	if _, held := updated.Labels[v1alpha1.LabelHold]; !held {
		decision.Label = v1alpha1.HoldPending
	}
	return decision
}

// changes: the template changes in more than what asks for a restart, or in that, too, where the Canary
// does not leave restarts to the Deployment.
func changes(old, updated *appsv1.Deployment) bool {
	before, after := &old.Spec.Template, &updated.Spec.Template
	ignored := restartAnnotations()
	// As with the Canary's label: a request that loses this one is held all the same.
	if old.Labels[v1alpha1.LabelRestarts] == v1alpha1.RestartsHeld || updated.Labels[v1alpha1.LabelRestarts] == v1alpha1.RestartsHeld {
		ignored = nil
	}
	return !apiequality.Semantic.DeepEqual(before.Spec, after.Spec) ||
		!maps.Equal(before.Labels, after.Labels) ||
		!maps.Equal(leaveOut(before.Annotations, ignored), leaveOut(after.Annotations, ignored))
}

func leaveOut(annotations map[string]string, keys []string) map[string]string {
	rest := maps.Clone(annotations)
	for _, key := range keys {
		delete(rest, key)
	}
	return rest
}
