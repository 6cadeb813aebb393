// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"encoding/json"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

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

// expectShare: while its run is kept at a step, each client sees a version in a share of its answers, in
// percent.
func (f *fixture) expectShare(version string, share, within float64, during time.Duration) {
	f.t.Helper()
	weight := f.timeline.State().Canary.Status.Weight
	f.pause(f.timeline.State().Canary.Status.Run)
	for _, pod := range f.clients {
		require.NoError(f.t, pod.Reset(f.t.Context(), f.Kube))
	}
	f.linger(during)
	for _, pod := range f.clients {
		counts, err := pod.Counts(f.t.Context(), f.Kube)
		require.NoError(f.t, err)
		seen := 100 * float64(counts.Versions[version].Requests) / float64(counts.Requests)
		f.t.Logf("%s: %s answered %d of %d requests (%.2f %%)", pod.Name, version, counts.Versions[version].Requests, counts.Requests, seen)
		require.Greater(f.t, float64(counts.Requests), 0.9*float64(pod.Rate)*during.Seconds(), pod.Name)
		require.InDelta(f.t, share, seen, within, pod.Name)
	}
	require.True(f.t, holdingAt(weight)(f.timeline.State()), "it was at that weight all the time")
	f.pause("")
}

// pause keeps a run where it is, until none is named.
func (f *fixture) pause(run string) {
	f.t.Helper()
	var named *string // nil takes the annotation away
	if run != "" {
		named = &run
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"annotations": map[string]*string{v1alpha1.AnnotationPause: named},
	}})
	require.NoError(f.t, err)
	canary := &v1alpha1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: appName}}
	require.NoError(f.t, f.Client.Patch(f.t.Context(), canary, client.RawPatch(types.MergePatchType, patch)))
}
