// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// kubectlRestart is what kubectl rollout restart sends.
func (b *bed) kubectlRestart(when string) {
	b.Helper()
	patch := `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"` + when + `"}}}}}`
	require.NoError(b, b.client.Patch(b.Context(), b.deployment(), client.RawPatch(types.StrategicMergePatchType, []byte(patch))))
}

func (b *bed) setRestart(restart v1alpha1.Restart) {
	b.Helper()
	b.change(func(spec *v1alpha1.CanarySpec) { spec.Restart = restart })
	want := ""
	if restart != v1alpha1.RestartRoll {
		want = v1alpha1.RestartsHeld
	}
	b.eventually("admission is told how restarts are treated", func() bool {
		return b.deployment().Labels[v1alpha1.LabelRestarts] == want
	})
}

// restartedFrom says whether two other pods serve, and the Canary rests with them.
func (b *bed) restartedFrom(old []string) func() bool {
	return func() bool {
		now := b.pods()["app:v1"]
		return len(now) == 2 && !slices.Contains(old, now[0]) && !slices.Contains(old, now[1]) && isTrue(b.canary(), "Ready")
	}
}

// A held restart goes through the steps, is rejected by its gate, is asked about, and is the
// Deployment's own affair again when the Canary says so.
func TestRestartIsHeld(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.setRestart(v1alpha1.RestartCanary)
	old := b.pods()["app:v1"]
	b.kubectlRestart("2026-11-22T10:00:00Z")
	b.eventually("the restart has gone through a run", b.restartedFrom(old))
	require.Equal(t, v1alpha1.OutcomePromoted, b.run("app-1").Record.Outcome)
	require.Equal(t, []int32{0, 50, 100}, b.mesh.seen())
	require.False(t, b.deployment().Spec.Paused)

	b.setRestart(v1alpha1.RestartAsk)
	old = b.pods()["app:v1"]
	b.kubectlRestart("2026-11-22T11:00:00Z")
	asked := b.awaitCondition("Reconciling", v1alpha1.ReasonRestartHeld)
	require.Contains(t, asked.Message, "sluice promote app")
	require.Equal(t, old, b.pods()["app:v1"], "nothing has moved")
	b.ask(v1alpha1.AnnotationAbort, "app-2")
	b.awaitCondition("Stalled", v1alpha1.ReasonRolledBack)
	require.Equal(t, old, b.pods()["app:v1"])

	b.kubectlRestart("2026-11-22T12:00:00Z")
	b.eventually("another restart is asked about anew", func() bool {
		return b.canary().Status.Run == "app-3" && b.canary().Status.Phase == v1alpha1.PhaseHeld
	})
	b.ask(v1alpha1.AnnotationPromote, "app-3")
	b.eventually("the restart has people's word", b.restartedFrom(old))
	require.Equal(t, v1alpha1.OutcomePromoted, b.run("app-3").Record.Outcome)

	b.setRestart(v1alpha1.RestartRoll)
	old = b.pods()["app:v1"]
	b.kubectlRestart("2026-11-22T13:00:00Z")
	b.eventually("the Deployment restarts by itself", b.restartedFrom(old))
	require.Equal(t, "app-3", b.canary().Status.Run)
}
