// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// writeSplit shares the workload's traffic. The split goes with the Deployment, not with the Canary:
// as long as there are pods of two revisions, somebody must say who gets what.
func (h *hands) writeSplit(ctx context.Context, e WriteSplit) error {
	desired := &v1alpha1.TrafficSplit{
		ObjectMeta: metav1.ObjectMeta{
			Name: h.deployment.Name, Namespace: h.deployment.Namespace,
			OwnerReferences: []metav1.OwnerReference{plainReference(h.deployment)},
		},
		Spec: v1alpha1.TrafficSplitSpec{
			WorkloadRef: h.canary.Spec.TargetRef, Selector: *h.deployment.Spec.Selector,
			TotalWeight: totalOf(e.TotalWeight),
			Revisions: []v1alpha1.RevisionWeight{
				{Name: v1alpha1.RevisionStable, PodTemplateHash: e.StableHash, Weight: totalOf(e.TotalWeight) - e.CanaryWeight},
				{Name: v1alpha1.RevisionCanary, PodTemplateHash: e.CanaryHash, Weight: e.CanaryWeight},
			},
			Matches: e.Routing.Matches, Mirror: e.Routing.Mirror, Stickiness: e.Routing.Stickiness,
		},
	}
	if h.split == nil {
		// One that was made since is not written over: this fails, and the next look sees it.
		if err := h.client.Create(ctx, desired); err != nil {
			return fmt.Errorf("create trafficsplit %s: %w", desired.Name, err)
		}
		h.split = desired
		return nil
	}
	err := h.onSameSplit(ctx, func(current *v1alpha1.TrafficSplit) error {
		before := current.DeepCopy()
		current.OwnerReferences, current.Spec = desired.OwnerReferences, desired.Spec
		if err := h.client.Patch(ctx, current, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return err
		}
		h.split = current
		return nil
	})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("write trafficsplit %s: somebody deleted it: %w", desired.Name, errMoved)
	case err != nil:
		return fmt.Errorf("write trafficsplit %s: %w", desired.Name, err)
	}
	return nil
}

func (h *hands) deleteSplit(ctx context.Context) error {
	if h.split == nil {
		return nil
	}
	err := h.onSameSplit(ctx, func(current *v1alpha1.TrafficSplit) error {
		return h.client.Delete(ctx, current, client.Preconditions{UID: &current.UID, ResourceVersion: &current.ResourceVersion})
	})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete trafficsplit %s: %w", h.split.Name, err)
	}
	h.split = nil
	return nil
}

// onSameSplit lets something act on the split as it is now, if its spec is the one that was observed:
// who decided on an older one, as a leader that was replaced, must not undo a newer weight. The version
// that was observed is no fence, because the mesh writes the status while the gate is being looked at.
func (h *hands) onSameSplit(ctx context.Context, act func(*v1alpha1.TrafficSplit) error) error {
	observed := h.split
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		current := &v1alpha1.TrafficSplit{}
		if err := h.reader.Get(ctx, client.ObjectKeyFromObject(observed), current); err != nil {
			return err
		}
		if current.UID != observed.UID || current.Generation != observed.Generation {
			return fmt.Errorf("it changed since it was observed: %w", errMoved)
		}
		return act(current)
	})
}
