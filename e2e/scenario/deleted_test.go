// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// TestCanaryDeleted: a Canary that Git drops in the middle of a run takes the traffic back to stable
// and goes with its pods. What it held is released: the Deployment rolls it out like any other.
func TestCanaryDeleted(t *testing.T) {
	t.Parallel()
	f := start(t, "canary-deleted", sampleapp.App{
		Replicas: 2, Canary: &sampleapp.Canary{Steps: steps(5*time.Second, 25, 50, 100), Drain: 10 * time.Second},
	}, 60)
	f.release("v2")
	r := f.await("v2 has weight", underWay("")).LatestRun()

	f.app.Canary = nil
	f.commit("Drop the Canary")
	require.NoError(t, f.flux.Poke(t.Context(), f.namespace))
	state := f.await("the Canary is gone", func(s timeline.State) bool { return s.Canary == nil })
	took, ended := state.TimeToZero(r.Spec.Candidate.PodTemplateHash)
	require.True(t, ended, "the traffic left")
	t.Logf("v2 had traffic for %s", took.Round(time.Millisecond))
	require.Equal(t, v1alpha1.OutcomeCancelled, state.Runs[r.Name].Record.Outcome)

	state = f.await("the Deployment has rolled v2 out", func(s timeline.State) bool {
		return rolledOut(s) && !s.Deployment.Spec.Paused && len(s.UIDs(r.Spec.Candidate.PodTemplateHash)) == 0
	})
	for _, label := range []string{v1alpha1.LabelCanary, v1alpha1.LabelHold} {
		require.NotContains(t, state.Deployment.Labels, label)
	}
	var split v1alpha1.TrafficSplit
	require.True(t, apierrors.IsNotFound(f.Client.Get(t.Context(), f.key(), &split)), "the split is gone")
	f.expectVersion("v2")
	f.expectNoFailures()
	f.expectOneOwner()
}
