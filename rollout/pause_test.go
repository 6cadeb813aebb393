// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

func TestPauseOwner(t *testing.T) {
	const paused, other = `{"f:spec":{"f:paused":{},"f:replicas":{}}}`, `{"f:spec":{"f:template":{"f:spec":{"f:paused":{}}}}}`
	for name, c := range map[string]struct {
		manager   string
		operation metav1.ManagedFieldsOperationType
		fields    string
		paused    bool
		want      string
	}{
		"a sync tool":                     {"kustomize-controller", metav1.ManagedFieldsOperationApply, paused, false, "kustomize-controller"},
		"Sluice":                          {v1alpha1.FieldManager, metav1.ManagedFieldsOperationApply, paused, false, ""},
		"a person, once":                  {"kubectl-edit", metav1.ManagedFieldsOperationUpdate, paused, false, ""},
		"another field":                   {"kustomize-controller", metav1.ManagedFieldsOperationApply, other, false, ""},
		"what cannot be read":             {"kustomize-controller", metav1.ManagedFieldsOperationApply, `{"f:spec":`, false, ""},
		"paused by Git: no sync lifts it": {"kustomize-controller", metav1.ManagedFieldsOperationApply, paused, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{
				{Manager: c.manager, Operation: c.operation, FieldsV1: &metav1.FieldsV1{Raw: []byte(c.fields)}},
			}}}
			d.Spec.Paused = c.paused
			require.Equal(t, c.want, pauseOwner(d))
		})
	}
}

// The hold of the next release would not last: that is said before there is one.
func TestAManifestThatUnpausesIsNamed(t *testing.T) {
	w := newWorld(1)
	w.push("A")
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() })
	w.seen.Target.PauseOwner = "kustomize-controller"
	standing := Plan(&w.canary, w.observe(), w.now).Standing
	require.True(t, standing.Stalled)
	require.Equal(t, v1alpha1.ReasonInvalidSpec, standing.Reason)
	require.Contains(t, standing.Message, "kustomize-controller applies spec.paused: false")
	w.seen.Gate = judged(analysis.VerdictPass)
	w.push("B")
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseHolding })
}
