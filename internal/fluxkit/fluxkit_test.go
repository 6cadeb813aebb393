// SPDX-License-Identifier: Apache-2.0

package fluxkit_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/internal/fluxkit"
)

func TestApplyKeepsKstatusRules(t *testing.T) {
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Generation: 7}}
	moving := fluxkit.Apply(object, nil, fluxkit.Standing{Ready: metav1.ConditionUnknown, Reconciling: true, Reason: "Moving", Message: "100 % done"})
	require.Equal(t, map[string]metav1.ConditionStatus{"Ready": "Unknown", "Reconciling": "True"}, states(moving))

	stalled := fluxkit.Apply(object, moving, fluxkit.Standing{Ready: metav1.ConditionFalse, Stalled: true, Reason: "Broken", Message: "no"})
	require.Equal(t, map[string]metav1.ConditionStatus{"Ready": "False", "Stalled": "True"}, states(stalled))

	ready := fluxkit.Apply(object, stalled, fluxkit.Standing{Ready: metav1.ConditionTrue, Reason: "Fine", Message: "yes"})
	require.Equal(t, map[string]metav1.ConditionStatus{"Ready": "True"}, states(ready))
	require.Equal(t, int64(7), ready[0].ObservedGeneration)
	require.Equal(t, "Moving", moving[0].Reason, "the list that was passed in is not changed")
}

func TestApplyIsStable(t *testing.T) {
	object := &corev1.ConfigMap{}
	standing := fluxkit.Standing{Ready: metav1.ConditionTrue, Reason: "Fine", Message: "yes"}
	first := fluxkit.Apply(object, nil, standing)
	require.Equal(t, first, fluxkit.Apply(object, first, standing))
}

func states(conditions []metav1.Condition) map[string]metav1.ConditionStatus {
	out := map[string]metav1.ConditionStatus{}
	for _, condition := range conditions {
		out[condition.Type] = condition.Status
	}
	return out
}
