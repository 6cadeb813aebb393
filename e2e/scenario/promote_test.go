// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/e2e/sampleapp"
)

// TestPromote: a good version walks through its steps under 300 requests/s, the pods that were
// analysed are the pods that serve, no request fails, and Flux finds nothing to mend. Then Git goes
// back to the version before, which takes no steps.
func TestPromote(t *testing.T) {
	t.Parallel()
	f := start(t, "promote", sampleapp.App{Replicas: 3, Canary: quick()}, 300)
	generation := f.generation()

	f.release("v2")
	r := f.awaitRun("")
	f.expectPromoted(r)
	require.Equal(t, []int32{0, 10, 25, 50, 100}, r.weights())
	require.Equal(t, generation+2, f.generation(), "one commit, and the controller's unpause")

	f.reapply()
	f.expectNoFailures()
	f.expectFluxQuiet()
	f.expectOneOwner()
	require.Equal(t, generation+2, f.generation())

	f.expectReturn("v1", r)
	f.expectNoFailures()
	f.expectFluxQuiet()
	require.Equal(t, generation+4, f.generation())
}
