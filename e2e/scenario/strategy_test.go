// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// following is a Canary whose strategy is written out, as fields of its spec.
func following(fields ...string) *sampleapp.Canary {
	return &sampleapp.Canary{Strategy: fields, Drain: 10 * time.Second}
}

// holdingAt says that a step's weight is in force.
func holdingAt(weight int32) func(timeline.State) bool {
	return func(s timeline.State) bool {
		return s.Canary.Status.Phase == v1alpha1.PhaseHolding && s.Canary.Status.Weight == weight
	}
}

// expectShare: for a while each client sees a version in a share of its answers, in percent.
func (f *fixture) expectShare(version string, share, within float64, during time.Duration) {
	f.t.Helper()
	for _, client := range f.clients {
		require.NoError(f.t, client.Reset(f.t.Context(), f.Kube))
	}
	f.linger(during)
	for _, client := range f.clients {
		counts, err := client.Counts(f.t.Context(), f.Kube)
		require.NoError(f.t, err)
		seen := 100 * float64(counts.Versions[version].Requests) / float64(counts.Requests)
		f.t.Logf("%s: %s answered %d of %d requests (%.2f %%)", client.Name, version, counts.Versions[version].Requests, counts.Requests, seen)
		require.InDelta(f.t, share, seen, within, client.Name)
	}
}
