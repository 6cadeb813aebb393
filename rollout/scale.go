// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// createSet makes a ReplicaSet as the Deployment controller would. minReadySeconds is copied: to
// change it at the handover would make all pods be counted anew.
func (h *hands) createSet(ctx context.Context, e CreateSet) error {
	template := *withoutHash(e.Template)
	if template.Labels == nil {
		template.Labels = map[string]string{}
	}
	template.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = e.Hash
	selector := h.deployment.Spec.Selector.DeepCopy()
	if selector.MatchLabels == nil {
		selector.MatchLabels = map[string]string{}
	}
	selector.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey] = e.Hash
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: e.Name, Namespace: h.deployment.Namespace},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &e.Replicas, MinReadySeconds: h.deployment.Spec.MinReadySeconds,
			Selector: selector, Template: template,
		},
	}
	if e.Owned {
		rs.Labels = maps.Clone(template.Labels)
		rs.OwnerReferences = []metav1.OwnerReference{*controllerReference(h.deployment)}
		rs.Annotations = map[string]string{annotationRevision: strconv.FormatInt(e.Revision, 10)}
	} else {
		rs.Labels = releasedLabels(h.canary.Name, e.Role, e.Hash)
		rs.OwnerReferences = []metav1.OwnerReference{plainReference(h.deployment)}
	}
	if err := h.client.Create(ctx, rs); err != nil {
		return fmt.Errorf("create replicaset %s: %w", e.Name, err)
	}
	h.sets[rs.Name] = rs
	return nil
}

func (h *hands) scaleSet(ctx context.Context, e ScaleSet) error {
	return h.patchSet(ctx, e.Name, "scale", func(rs *appsv1.ReplicaSet) { rs.Spec.Replicas = &e.Replicas })
}

func (h *hands) deleteSet(ctx context.Context, e DeleteSet) error {
	rs, err := h.lookUp(e.Name)
	if err != nil {
		return err
	}
	fence := client.Preconditions{UID: &rs.UID, ResourceVersion: &rs.ResourceVersion}
	if err := h.client.Delete(ctx, rs, fence, client.PropagationPolicy(metav1.DeletePropagationBackground)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete replicaset %s: %w", e.Name, err)
	}
	delete(h.sets, e.Name)
	return nil
}

// patchSet changes a ReplicaSet as it was observed, or not at all.
func (h *hands) patchSet(ctx context.Context, name, what string, change func(*appsv1.ReplicaSet)) error {
	rs, err := h.lookUp(name)
	if err != nil {
		return err
	}
	before := rs.DeepCopy()
	change(rs)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := h.client.Patch(ctx, rs, patch); err != nil {
		return fmt.Errorf("%s replicaset %s: %w", what, name, err)
	}
	return nil
}

func (h *hands) lookUp(name string) (*appsv1.ReplicaSet, error) {
	rs := h.sets[name]
	if rs == nil {
		return nil, fmt.Errorf("find replicaset %s: it was not observed", name)
	}
	return rs, nil
}

// releasedLabels are all labels that a set has while it is Sluice's: none by which a selector, a
// GitOps tool or a cost report would take it for something else.
func releasedLabels(canary, role, hash string) map[string]string {
	return map[string]string{
		v1alpha1.LabelCanary: canary, v1alpha1.LabelRevision: role, appsv1.DefaultDeploymentUniqueLabelKey: hash,
	}
}

// plainReference lets garbage collection remove a released set with its Deployment. It is no
// controller reference: that would keep the Deployment controller from taking the set back.
func plainReference(d *appsv1.Deployment) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "Deployment", Name: d.Name, UID: d.UID}
}

func controllerReference(d *appsv1.Deployment) *metav1.OwnerReference {
	return metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))
}
