// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// outdated finds the pods that a restart is asked for.
func (o *observer) outdated(ctx context.Context, s *scene) error {
	at, _ := restartAt(s.canary) // plan says what is wrong with the time
	if at.IsZero() || s.canary.Status.Stable == nil {
		return nil
	}
	rs := s.sets[s.canary.Status.Stable.ReplicaSet]
	if rs == nil {
		return nil
	}
	pods := &corev1.PodList{}
	if err := o.reader.List(ctx, pods, client.InNamespace(rs.Namespace), client.MatchingLabels(rs.Spec.Selector.MatchLabels)); err != nil {
		return fmt.Errorf("list pods of %s: %w", rs.Name, err)
	}
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for i := range pods.Items {
		pod := &pods.Items[i]
		if metav1.IsControlledBy(pod, rs) && pod.DeletionTimestamp.IsZero() && pod.CreationTimestamp.Time.Before(at) {
			s.Outdated = append(s.Outdated, pod.Name)
		}
	}
	return nil
}

// evictPod asks for a pod to go. That a disruption budget refuses is no failure: it is asked again.
func (h *hands) evictPod(ctx context.Context, e EvictPod) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: h.canary.Namespace, Name: e.Name}}
	err := h.client.SubResource("eviction").Create(ctx, pod, &policyv1.Eviction{ObjectMeta: pod.ObjectMeta})
	if client.IgnoreNotFound(err) != nil && !apierrors.IsTooManyRequests(err) {
		return fmt.Errorf("evict pod %s: %w", e.Name, err)
	}
	return nil
}
