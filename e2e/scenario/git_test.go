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

// TestGitMovesOn: what Git says in the middle of a run ends it, traffic first.
func TestGitMovesOn(t *testing.T) {
	t.Parallel()
	f := start(t, "git-moves-on", sampleapp.App{
		Replicas: 2, Canary: &sampleapp.Canary{Steps: steps(3*time.Second, 25, 50, 100), Drain: 10 * time.Second},
	}, 60)
	f.part("revert", f.playRevert)
	f.part("newer revision", f.playNewerRevision)
	f.expectNoFailures()
	f.expectFluxQuiet()
	f.expectOneOwner()
}

// playRevert: a revert is a rollback. The hold is released, and stable's pods never noticed.
func (f *fixture) playRevert() {
	before := f.timeline.State()
	stable := before.Canary.Status.Stable.PodTemplateHash
	generation := f.generation()
	f.release("v2")
	r := f.await("v2 has weight", underWay("")).LatestRun()

	f.revert()
	f.expectCancelled(r.Name)
	after := f.await("everything rests", resting)
	require.Equal(f.t, before.UIDs(stable), after.UIDs(stable), "stable's pods")
	require.Equal(f.t, stable, after.Canary.Status.Stable.PodTemplateHash)
	require.Empty(f.t, after.Deployment.Labels[v1alpha1.LabelHold])
	require.Equal(f.t, generation+3, f.generation(), "two commits, and the controller's unpause")
	took, ended := after.TimeToZero(r.Spec.Candidate.PodTemplateHash)
	require.True(f.t, ended)
	f.t.Logf("v2 had traffic for %s", took.Round(time.Millisecond))
}

// playNewerRevision: a third revision cancels the run and starts anew from stable.
func (f *fixture) playNewerRevision() {
	before := f.timeline.State()
	f.release("v3")
	second := f.await("v3 has weight", underWay(before.Canary.Status.Run)).LatestRun()
	f.release("v4")
	f.expectCancelled(second.Name)
	r := f.awaitRun(second.Name)
	f.expectPromoted(r)
	require.Equal(f.t, []int32{0, 25, 50, 100}, r.weights())
	third := r.state.Runs[r.name]
	require.Equal(f.t, before.Canary.Status.Stable.PodTemplateHash, third.Spec.Stable.PodTemplateHash, "from stable, not from v3")
	require.NotEqual(f.t, second.Spec.Candidate.PodTemplateHash, r.revision)
	f.await("everything rests", func(s timeline.State) bool { return resting(s) && len(s.UIDs(r.revision)) == 2 })
}
