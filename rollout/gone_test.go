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

// TestNothingToUnwind: a Canary that goes together with its workload or its namespace is let go at
// once, whatever its phase: a finalizer that waited would hold the namespace up for ever.
func TestNothingToUnwind(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	going := metav1.NewTime(now.Add(-time.Minute))
	target := &rollout.Target{Name: "web", Paused: true, Hold: "web-1", Canary: "web", Replicas: 2}
	scenes := map[string]rollout.Observed{
		"the namespace goes":     {NamespaceTerminating: true, Target: target},
		"the workload is gone":   {},
		"another has the target": {Rival: "older", Target: target},
	}
	phases := []v1alpha1.Phase{
		v1alpha1.PhaseStable, v1alpha1.PhaseHeld, v1alpha1.PhaseScaling, v1alpha1.PhaseShifting,
		v1alpha1.PhaseHolding, v1alpha1.PhasePromoting, v1alpha1.PhaseRollingBack, v1alpha1.PhaseRejected,
	}
	for name, seen := range scenes {
		for _, phase := range phases {
			t.Run(name+"/"+string(phase), func(t *testing.T) {
				t.Parallel()
				canary := &v1alpha1.Canary{
					ObjectMeta: metav1.ObjectMeta{
						Name: "web", Namespace: "shop", DeletionTimestamp: &going,
						Finalizers: []string{v1alpha1.FinalizerCanary},
					},
					Status: v1alpha1.CanaryStatus{Phase: phase, Run: "web-1"},
				}
				decision := rollout.Plan(canary, seen, now)
				require.Equal(t, []rollout.Effect{rollout.ClearFinalizer{}}, decision.Effects)
				require.NotEmpty(t, decision.Standing.Reason)
			})
		}
	}
}
