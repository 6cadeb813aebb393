// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// TestShare: at weight 25 a caller outside the mesh sees the canary in 25 % +- 3 of its answers, as
// one inside does, whatever share of the pods the canary has.
func TestShare(t *testing.T) {
	t.Parallel()
	f := start(t, "share", sampleapp.App{Replicas: 2, Canary: following(
		`steps: [{weight: 25, hold: 30s}, {weight: 100, hold: 2s}]`, `skipAnalysis: true`)})
	f.load(200)

	f.release("v2")
	holding := func(s timeline.State) bool {
		return s.Canary.Status.Phase == v1alpha1.PhaseHolding && s.Canary.Status.Weight == 25
	}
	state := f.await("weight 25 is in force", holding)
	r := state.LatestRun()
	t.Logf("%d pods of the canary, %d of stable", len(state.UIDs(r.Spec.Candidate.PodTemplateHash)), len(state.UIDs(r.Spec.Stable.PodTemplateHash)))
	f.expectNoFailures()
	for _, client := range f.clients {
		require.NoError(t, client.Reset(t.Context(), f.Kube))
	}
	f.linger(27 * time.Second)
	for _, client := range f.clients {
		counts, err := client.Counts(t.Context(), f.Kube)
		require.NoError(t, err)
		share := 100 * float64(counts.Versions["v2"].Requests) / float64(counts.Requests)
		t.Logf("%s: v2 answered %d of %d requests (%.1f %%)", client.Name, counts.Versions["v2"].Requests, counts.Requests, share)
		// At 2,500 requests chance alone moves the share by less than 3 points, but for 1 in 1,800 times.
		require.Greater(t, counts.Requests, uint64(2_500), client.Name)
		require.InDelta(t, 25, share, 3, client.Name)
	}
	require.True(t, holding(f.timeline.State()), "it was at weight 25 all the time")

	f.expectPromoted(f.awaitRun(""))
	f.expectNoFailures()
}
