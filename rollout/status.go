// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/internal/fluxkit"
)

// writeStatus is the one place that writes a Canary's status, once per reconcile and only when it
// differs. It fails when the Canary changed meanwhile: what was decided was decided on the old one.
func writeStatus(ctx context.Context, writer client.Client, canary *v1alpha1.Canary, decision Decision) error {
	before := canary.DeepCopy()
	canary.Status = decision.Status
	canary.Status.Conditions = fluxkit.Apply(canary, before.Status.Conditions, decision.Standing)
	if at, asked := fluxkit.RequestedAt(canary); asked {
		canary.Status.LastHandledReconcileAt = at
	}
	if equality.Semantic.DeepEqual(before.Status, canary.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := writer.Status().Patch(ctx, canary, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write the status of canary %s: %w", canary.Name, err)
	}
	return nil
}

// withFailure is the status when an effect failed: the old one, because the next look decides anew,
// with what went wrong.
func withFailure(canary *v1alpha1.Canary, failed error) Decision {
	return Decision{
		Status: *canary.Status.DeepCopy(),
		Standing: fluxkit.Standing{
			Ready: metav1.ConditionUnknown, Reconciling: true,
			Reason: v1alpha1.ReasonWriteFailed, Message: failed.Error(),
		},
	}
}
