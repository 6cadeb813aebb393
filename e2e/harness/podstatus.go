// SPDX-License-Identifier: Apache-2.0

package harness

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// observed is what is to be reported about a pod.
type observed struct {
	bound, failed, ready bool
	address              string
	now                  metav1.Time
}

// statusOf is the status that a kubelet would report, nil when the pod has it already.
func statusOf(pod *corev1.Pod, seen observed) *corev1.PodStatus {
	status := pod.Status.DeepCopy()
	switch {
	case pod.Status.Phase == corev1.PodFailed:
		return nil
	case !seen.bound:
		status.Phase = corev1.PodPending
		setCondition(status, corev1.PodScheduled, false, seen.now)
	case seen.failed:
		status.Phase = corev1.PodFailed
		status.Reason = "Failed"
		setCondition(status, corev1.PodReady, false, seen.now)
		setCondition(status, corev1.ContainersReady, false, seen.now)
	default:
		status.Phase = corev1.PodRunning
		status.HostIP = "127.0.0.1"
		status.PodIP = seen.address
		status.PodIPs = []corev1.PodIP{{IP: seen.address}}
		if status.StartTime == nil {
			status.StartTime = &seen.now
		}
		setCondition(status, corev1.PodScheduled, true, seen.now)
		setCondition(status, corev1.PodInitialized, true, seen.now)
		setCondition(status, corev1.ContainersReady, seen.ready, seen.now)
		setCondition(status, corev1.PodReady, seen.ready && gatesPass(pod), seen.now)
		status.ContainerStatuses = containers(pod.Spec.Containers, *status.StartTime, seen.ready)
	}
	if equality.Semantic.DeepEqual(*status, pod.Status) {
		return nil
	}
	return status
}

// gatesPass: a pod is ready when its readiness gates say so too.
func gatesPass(pod *corev1.Pod) bool {
	for _, gate := range pod.Spec.ReadinessGates {
		passed := false
		for _, condition := range pod.Status.Conditions {
			passed = passed || condition.Type == gate.ConditionType && condition.Status == corev1.ConditionTrue
		}
		if !passed {
			return false
		}
	}
	return true
}

func containers(specified []corev1.Container, since metav1.Time, ready bool) []corev1.ContainerStatus {
	var statuses []corev1.ContainerStatus
	for _, container := range specified {
		started := true
		statuses = append(statuses, corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, ImageID: container.Image,
			Ready: ready, Started: &started,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: since}},
		})
	}
	return statuses
}

// setCondition keeps the time of the last transition, which minReadySeconds counts from.
func setCondition(status *corev1.PodStatus, kind corev1.PodConditionType, holds bool, now metav1.Time) {
	value := corev1.ConditionFalse
	if holds {
		value = corev1.ConditionTrue
	}
	reason := ""
	if kind == corev1.PodScheduled && !holds {
		reason = corev1.PodReasonUnschedulable
	}
	for i := range status.Conditions {
		condition := &status.Conditions[i]
		if condition.Type != kind {
			continue
		}
		if condition.Status != value {
			condition.Status, condition.Reason, condition.LastTransitionTime = value, reason, now
		}
		return
	}
	status.Conditions = append(status.Conditions, corev1.PodCondition{
		Type: kind, Status: value, Reason: reason, LastTransitionTime: now,
	})
}
