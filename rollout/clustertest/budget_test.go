// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// A run begins with a slot, also with one whose owner is gone without giving it back; an emergency takes
// the traffic back; and when it is over the same template is tried again and gives its slot back.
func TestBudgetAndEmergencyStop(t *testing.T) {
	b := newBed(t)
	one := int32(1)
	policy := &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Name: b.namespace}}
	policy.Spec.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": b.namespace}}
	policy.Spec.MaxConcurrentRuns = &one
	require.NoError(t, b.client.Create(t.Context(), policy))
	t.Cleanup(func() { require.NoError(t, b.client.Delete(context.WithoutCancel(t.Context()), policy)) })
	policy.Status.Running = []v1alpha1.RunningRun{{Namespace: b.namespace, Canary: "gone", Run: "gone-1"}}
	require.NoError(t, b.client.Status().Update(t.Context(), policy))
	b.start()
	b.rest("app:v1", 2)
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(50)
	running := func() []v1alpha1.RunningRun {
		stored := &v1alpha1.RolloutPolicy{}
		require.NoError(t, b.client.Get(t.Context(), client.ObjectKeyFromObject(policy), stored))
		return stored.Status.Running
	}
	require.Equal(t, []v1alpha1.RunningRun{{Namespace: b.namespace, Canary: "app", Run: "app-1"}}, running())

	patch := func(text string) {
		require.NoError(t, b.client.Patch(t.Context(), policy.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(text))))
	}
	patch(`{"spec":{"emergencyStop":{"mode":"RollBack","reason":"payments are down"}}}`)
	stopped := b.awaitCondition("Ready", v1alpha1.ReasonEmergencyStop)
	require.Contains(t, stopped.Message, "payments are down")
	b.eventually("the run was taken back and the next one waits", func() bool {
		canary := b.canary()
		return canary.Status.Run == "app-2" && canary.Status.Phase == v1alpha1.PhaseHeld
	})
	require.Equal(t, v1alpha1.OutcomeCancelled, b.run("app-1").Record.Outcome)

	b.gate.set(func(g *gate) { g.silent = false })
	patch(`{"spec":{"emergencyStop":null}}`)
	b.awaitStable("app:v2")
	b.eventually("the slot is given back", func() bool { return len(running()) == 0 })
}
