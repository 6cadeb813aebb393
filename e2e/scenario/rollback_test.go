// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/e2e/sampleapp"
)

// TestRollbackOnErrors: a version that fails a fifth of its requests loses its traffic, then its
// pods; users saw no failure but those that it answered itself; Flux leaves the held Deployment
// alone.
func TestRollbackOnErrors(t *testing.T) {
	t.Parallel()
	f := start(t, "rollback-errors", sampleapp.App{Replicas: 3, Canary: bold()}, 100)
	generation := f.generation()

	f.release("v2", sampleapp.Faulty(20))
	r := f.awaitRun("")
	f.expectRolledBack(r)
	exposed, ended := r.state.TimeToZero(r.revision)
	require.True(t, ended)
	t.Logf("%s from the first weight to none", exposed.Round(time.Millisecond))
	require.Equal(t, generation+1, f.generation(), "one commit, and nothing of the controller's")

	f.reapply()
	f.expectNoFailures("v2")
	f.expectFluxQuiet()
	f.expectOneOwner()
	require.Equal(t, generation+1, f.generation())
}

// TestRollbackOnLatency: a version that answers right but too late is taken back as well.
func TestRollbackOnLatency(t *testing.T) {
	t.Parallel()
	canary := bold()
	canary.P99 = 500 * time.Millisecond
	f := start(t, "rollback-latency", sampleapp.App{Replicas: 3, Canary: canary}, 100)

	f.release("v2", sampleapp.Slow(20, 1500*time.Millisecond)...)
	r := f.awaitRun("")
	f.expectRolledBack(r)
	f.expectNoFailures()
}
