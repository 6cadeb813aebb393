// SPDX-License-Identifier: Apache-2.0

package rollout_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
)

// TestDeletionIsNotHeldUp: where nothing can be unwound, a deleted Canary goes at once, whatever it
// was doing. A namespace that was deleted mid-run would otherwise never end.
func TestDeletionIsNotHeldUp(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, seen := range map[string]rollout.Observed{
		"namespace terminating": {NamespaceTerminating: true, Target: &rollout.Target{Name: "web"}},
		"target gone":           {},
		"older rival":           {Rival: "older", Target: &rollout.Target{Name: "web"}},
	} {
		for _, phase := range []v1alpha1.Phase{
			v1alpha1.PhaseStable, v1alpha1.PhaseHeld, v1alpha1.PhaseScaling, v1alpha1.PhaseShifting,
			v1alpha1.PhaseHolding, v1alpha1.PhaseAwaitingApproval, v1alpha1.PhasePromoting, v1alpha1.PhaseRollingBack, v1alpha1.PhaseRejected,
		} {
			t.Run(name+" in "+string(phase), func(t *testing.T) {
				canary := &v1alpha1.Canary{ObjectMeta: metav1.ObjectMeta{
					Name: "web", DeletionTimestamp: &metav1.Time{Time: now}, Finalizers: []string{v1alpha1.FinalizerCanary},
				}}
				canary.Status.Phase = phase
				decision := rollout.Plan(canary, seen, now)
				require.Equal(t, []rollout.Effect{rollout.ClearFinalizer{}}, decision.Effects)
				require.NotEmpty(t, decision.Standing.Reason, "the controller takes a decision without one for none")
			})
		}
	}
}
