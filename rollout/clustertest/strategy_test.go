// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Run B6: a canary of as many pods as the Deployment surges enters it beside stable, and the Deployment
// controller's own rolling update makes the rest of the same ReplicaSet.
func TestSurgeAsTheDeployment(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 8, step(25), step(100))
	b.change(func(spec *v1alpha1.CanarySpec) { spec.Surge = v1alpha1.SurgeDeployment })

	b.git("app:v2")
	b.eventually("the last step is held", func() bool {
		status := b.canary().Status
		return status.Phase == v1alpha1.PhaseHolding && status.Step == 1
	})
	require.EqualValues(t, 25, b.canary().Status.Weight, "8 replicas surge by 2")
	analysed := b.pods()["app:v2"]
	require.Len(t, analysed, 2)
	require.Len(t, b.pods()["app:v1"], 8)
	b.awaitStable("app:v2")
	require.Subset(t, b.pods()["app:v2"], analysed, "what was analysed runs")
	require.Nil(t, b.split())
	for _, rs := range b.sets() {
		require.True(t, *rs.OwnerReferences[0].Controller, "%s is the Deployment's", rs.Name)
	}
	require.Equal(t, v1alpha1.OutcomePromoted, b.run("app-1").Record.Outcome)
}

// What the API server makes of a strategy is what was written: nothing is written twice.
func TestStrategyIsWrittenOnce(t *testing.T) {
	b := newBed(t)
	b.start()
	yes := "yes"
	matches := []v1alpha1.RequestMatch{{Headers: []v1alpha1.HeaderMatch{{Name: "x-preview", Exact: &yes}}, Method: "GET"}}
	b.rest("app:v1", 2, v1alpha1.Step{Matches: matches, Mirror: &v1alpha1.Mirror{Percent: 10}}, step(50), step(100))
	b.change(func(spec *v1alpha1.CanarySpec) {
		spec.Stickiness = &v1alpha1.Stickiness{Cookie: &v1alpha1.StickyCookie{}}
		spec.Preview = matches
		spec.Steps[0].Hold.Duration = time.Second
	})
	b.git("app:v2")
	b.awaitStable("app:v2")
	// Pinned, shown to the preview, and each step; the played mesh may miss what is followed at once.
	seen := b.mesh.seen()
	require.LessOrEqual(t, len(seen), 5)
	require.Equal(t, []int32{0, 50, 100}, slices.Compact(seen))
}

// change edits the Canary's spec.
func (b *bed) change(edit func(*v1alpha1.CanarySpec)) {
	b.Helper()
	canary := b.canary()
	before := canary.DeepCopy()
	edit(&canary.Spec)
	require.NoError(b, b.client.Patch(b.Context(), canary, client.MergeFrom(before)))
}
