// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// writeSplit shares the workload's traffic. The split goes with the Deployment, not with the Canary:
// as long as there are pods of two revisions, somebody must say who gets what.
func (h *hands) writeSplit(ctx context.Context, e WriteSplit) error {
	desired := &v1alpha1.TrafficSplit{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "TrafficSplit"},
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
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(desired)
	if err != nil {
		return fmt.Errorf("encode trafficsplit %s: %w", desired.Name, err)
	}
	delete(object, "status")
	configuration := client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: object})
	if err := h.client.Apply(ctx, configuration, client.FieldOwner(v1alpha1.FieldManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("apply trafficsplit %s: %w", desired.Name, err)
	}
	return nil
}

func (h *hands) deleteSplit(ctx context.Context) error {
	if h.split == nil {
		return nil
	}
	fence := client.Preconditions{UID: &h.split.UID}
	if err := h.client.Delete(ctx, h.split, fence); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete trafficsplit %s: %w", h.split.Name, err)
	}
	return nil
}
