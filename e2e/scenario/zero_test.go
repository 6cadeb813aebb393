// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// TestScaleToZero: a held workload that is scaled to nothing and back comes back as stable, whether
// the held template is being tried or was rejected.
func TestScaleToZero(t *testing.T) {
	t.Parallel()
	f := start(t, "scale-to-zero", sampleapp.App{
		Replicas: 2, Canary: &sampleapp.Canary{Steps: steps(3*time.Second, 50, 100), Drain: 5 * time.Second},
	}, 60)
	f.part("rejected", f.playZeroRejected)
	f.part("during a run", f.playZeroDuringRun)
	f.expectOneOwner()
}

func (f *fixture) playZeroRejected() {
	f.release("v2", sampleapp.Faulty(50))
	r := f.awaitRun("")
	f.expectRolledBack(r)
	f.expectNoFailures("v2")
	stopped := f.stopAndStart(r.state.Canary.Status.Stable.PodTemplateHash)
	after := f.timeline.State()
	require.Equal(f.t, v1alpha1.PhaseRejected, after.Canary.Status.Phase)
	require.Equal(f.t, r.name, after.Canary.Status.Run)
	require.True(f.t, after.Deployment.Spec.Paused)
	for _, birth := range after.Since(stopped).Births {
		require.NotEqual(f.t, r.revision, birth.Revision, "the rejected revision stays away")
	}
}

func (f *fixture) playZeroDuringRun() {
	before := f.timeline.State().Canary.Status.Run
	f.release("v3")
	state := f.await("v3 has weight", underWay(before))
	held := state.LatestRun()
	f.expectNoFailures()
	stopped := f.stopAndStart(held.Spec.Stable.PodTemplateHash)

	r := f.awaitRun(before)
	require.Equal(f.t, held.Name, r.name, "the run went on")
	f.expectPromoted(r)
	f.expectNoFailures()
	births := map[string]time.Time{}
	for _, birth := range r.state.Since(stopped).Births {
		if _, known := births[birth.Revision]; !known {
			births[birth.Revision] = birth.At
		}
	}
	require.True(f.t, births[held.Spec.Stable.PodTemplateHash].Before(births[r.revision]), "stable came back first")
}

// stopAndStart takes the replicas to 0 in Git and back, and returns the moment without pods. Then
// both clients count from nothing: an application of no replicas does not answer.
func (f *fixture) stopAndStart(stable string) time.Time {
	f.t.Helper()
	f.app.Stopped = true
	f.commit("Stop")
	require.NoError(f.t, f.flux.Poke(f.t.Context(), f.namespace))
	state := f.await("no pod is left, and nothing moves", func(s timeline.State) bool {
		reconciling := meta.FindStatusCondition(s.Canary.Status.Conditions, v1alpha1.ConditionReconciling)
		return len(instances(s)) == 0 && *s.Deployment.Spec.Replicas == 0 && (s.Canary.Status.Phase == v1alpha1.PhaseRejected ||
			reconciling != nil && reconciling.Reason == v1alpha1.ReasonScaledToZero)
	})
	stopped := time.Now()
	require.True(f.t, state.Deployment.Spec.Paused, "it is still held")

	f.app.Stopped = false
	f.commit("Start")
	require.NoError(f.t, f.flux.Poke(f.t.Context(), f.namespace))
	f.await("stable's pods are back", func(s timeline.State) bool {
		ready := 0
		for _, pod := range s.PodsOf(stable) {
			if isReady(pod) {
				ready++
			}
		}
		return ready == 2
	})
	f.forget()
	return stopped
}
