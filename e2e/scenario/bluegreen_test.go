// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/e2e/sampleapp"
)

// TestBlueGreen: one step of everything. Before it the preview reaches the canary; in its bake the old
// pods are warm, and a revert in Git takes everything back in one write.
func TestBlueGreen(t *testing.T) {
	t.Parallel()
	f := start(t, "blue-green", sampleapp.App{Replicas: 2, Canary: following(
		`preview: [{headers: [{name: x-preview, exact: "yes"}]}]`, `steps: [{weight: 100, hold: 1m}]`)}, 60)

	f.release("v2")
	state := f.await("the canary has everything", holdingAt(100))
	r := state.LatestRun()
	stable := state.UIDs(r.Spec.Stable.PodTemplateHash)
	require.Len(t, stable, 2, "the old pods are warm")
	f.revert()
	f.expectCancelled(r.Name)
	state = f.await("it rests", resting)
	require.Equal(t, stable, state.UIDs(r.Spec.Stable.PodTemplateHash), "the pods that were warm serve")
	f.expectVersion("v1")
	f.expectNoFailures()
}
