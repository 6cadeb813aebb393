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

// TestSurge: with the one spare pod that the Deployment's maxSurge allows, the weight stays at what that
// pod carries; after the last gate the Deployment's own rolling update makes the rest beside it.
func TestSurge(t *testing.T) {
	t.Parallel()
	f := start(t, "surge", sampleapp.App{Replicas: 4, Canary: following(
		`surge: deployment`, `steps: [{weight: 10, hold: 4s}, {weight: 50, hold: 4s}, {weight: 100, hold: 4s}]`, `skipAnalysis: true`)}, 60)

	f.release("v2")
	state := f.await("the last step is held", func(s timeline.State) bool {
		return s.Canary.Status.Phase == v1alpha1.PhaseHolding && s.Canary.Status.Step == 2
	})
	require.LessOrEqual(t, len(state.UIDs(state.LatestRun().Spec.Candidate.PodTemplateHash)), 1)
	require.EqualValues(t, 25, state.Canary.Status.Weight)

	r := f.awaitRun("")
	require.Equal(t, v1alpha1.OutcomePromoted, r.outcome, r.state.Describe())
	state = f.await("the Deployment is rolled out", rolledOut)
	require.NotEmpty(t, r.analysed)
	require.Subset(t, state.UIDs(r.revision), r.analysed, "the pod that was analysed serves")
	f.linger(2 * time.Second)
	f.expectVersion("v2")
	f.expectNoFailures()
}
