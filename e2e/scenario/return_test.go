// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// expectReturn plays the way back to the version before the given run: no steps, because it was
// stable a moment ago, and again the pods that take the traffic are those that keep it.
func (f *fixture) expectReturn(to string, from run) {
	f.t.Helper()
	f.release(to)
	r := f.awaitRun(from.name)
	f.expectPromoted(r)
	require.Equal(f.t, v1alpha1.RunReturn, r.kind)
	require.Equal(f.t, []int32{0, 100}, r.weights())
	require.Equal(f.t, from.state.Runs[from.name].Spec.Stable.PodTemplateHash, r.revision, "the very ReplicaSet that it was")
}
