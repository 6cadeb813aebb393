// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// TestUnpauseRace: a new template that lands while the last one is being let go is held like any
// other. Whoever wins, no template gets a pod before a run has begun for it and all traffic was
// pinned to stable.
func TestUnpauseRace(t *testing.T) {
	t.Parallel()
	f := start(t, "unpause-race", sampleapp.App{
		Replicas: 2, Canary: &sampleapp.Canary{Steps: steps(time.Second, 100), Drain: 5 * time.Second},
	}, 60)
	first := f.timeline.State().Canary.Status.Stable.PodTemplateHash
	// From here on templates come from a person: Flux would take them back.
	require.NoError(t, f.flux.Suspend(t.Context(), f.namespace, true))
	f.setVersion("v2")
	raced := ""
	for _, race := range []struct {
		version, when string
		now           func(timeline.State) bool
	}{
		{"v3", "the handover begins", func(s timeline.State) bool { return s.Canary.Status.Phase == v1alpha1.PhasePromoting }},
		{"v4", "stable is released", func(s timeline.State) bool {
			return s.Canary.Status.Phase == v1alpha1.PhasePromoting && f.released(s.Canary.Status.Stable)
		}},
		{"v5", "the Deployment is let go", func(s timeline.State) bool {
			return s.Canary.Status.Phase == v1alpha1.PhasePromoting && !s.Deployment.Spec.Paused
		}},
	} {
		state := f.await(race.when, func(s timeline.State) bool { return s.Canary.Status.Run != raced && race.now(s) })
		f.setVersion(race.version)
		raced = state.Canary.Status.Run
	}
	last := f.awaitRun(raced)
	f.expectPromoted(last)
	state := f.await("everything rests", resting)
	require.Len(t, state.Runs, 4)
	for _, birth := range state.Births {
		if birth.Revision != "" && birth.Revision != first {
			f.expectPinnedBefore(state, birth)
		}
	}
	for name, r := range state.Runs {
		// A template that came before the handover has cancelled the run, one that came after has not.
		require.Contains(t, []v1alpha1.Outcome{v1alpha1.OutcomePromoted, v1alpha1.OutcomeCancelled}, r.Record.Outcome, name)
		t.Logf("%s: %s", name, r.Record.Outcome)
		weights := run{revision: r.Spec.Candidate.PodTemplateHash, state: state}.weights()
		require.Subset(t, [][]int32{{0, 100}, {0, 100, 0}}, [][]int32{weights}, name)
	}
	f.expectNoFailures()
}

// expectPinnedBefore: when a pod was born, its revision had a run, and all proxies kept the traffic
// on stable or had been told otherwise by the run.
func (f *fixture) expectPinnedBefore(state timeline.State, birth timeline.Birth) {
	f.t.Helper()
	for _, shift := range state.Shifts {
		if shift.Revision == birth.Revision && shift.Acknowledged {
			require.Less(f.t, shift.Version, birth.Version, "a pod of %s was born at %s", birth.Revision, birth.At)
			return
		}
	}
	require.Fail(f.t, "a revision without a run has pods", "revision %s, pod %s", birth.Revision, birth.UID)
}

// released says that a ReplicaSet is out of the Deployment's hands. The timeline does not watch
// ReplicaSets, so each change of anything else is an occasion to look.
func (f *fixture) released(revision *v1alpha1.RevisionStatus) bool {
	var set appsv1.ReplicaSet
	err := f.Client.Get(f.t.Context(), client.ObjectKey{Namespace: f.namespace, Name: revision.ReplicaSet}, &set)
	return err == nil && metav1.GetControllerOf(&set) == nil
}

// setVersion changes the template as kubectl would.
func (f *fixture) setVersion(version string) {
	f.t.Helper()
	patch, err := json.Marshal([]map[string]string{{
		"op": "replace", "path": "/spec/template/spec/containers/0/args/0", "value": "--app-version=" + version,
	}})
	require.NoError(f.t, err)
	_, err = f.Kube.AppsV1().Deployments(f.namespace).Patch(f.t.Context(), appName, types.JSONPatchType, patch,
		metav1.PatchOptions{FieldManager: "kubectl-set"})
	require.NoError(f.t, err)
}
