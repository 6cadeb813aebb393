// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/flux"
	"github.com/sluice-mesh/sluice/e2e/load"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// run is one that has ended.
type run struct {
	name     string
	revision string
	outcome  v1alpha1.Outcome
	kind     v1alpha1.RunKind
	// analysed are the canary's pods as they were before it was promoted or taken back.
	analysed []types.UID
	state    timeline.State
}

// awaitRun returns when a run other than the given one has ended and the Canary rests.
func (f *fixture) awaitRun(before string) run {
	f.t.Helper()
	var r run
	r.state = f.await("a run after "+before+" has ended", func(s timeline.State) bool {
		latest := s.LatestRun()
		if latest == nil || latest.Name == before || s.Canary == nil {
			return false
		}
		r.name, r.revision, r.outcome = latest.Name, latest.Spec.Candidate.PodTemplateHash, latest.Record.Outcome
		r.kind, r.analysed = latest.Spec.Kind, s.Analysed[latest.Name]
		phase := s.Canary.Status.Phase
		return r.outcome != "" && (phase == v1alpha1.PhaseStable || phase == v1alpha1.PhaseRejected)
	})
	for _, entry := range r.state.LatestRun().Record.Entries {
		f.t.Logf("%5.1f s: %s: %s %d: %s", entry.Time.Sub(f.began).Seconds(), r.name, entry.Phase, entry.Weight, entry.Message)
	}
	return r
}

// expectPromoted: the run ended well, and the Deployment's own pods are those that were analysed.
func (f *fixture) expectPromoted(r run) {
	f.t.Helper()
	require.Equal(f.t, v1alpha1.OutcomePromoted, r.outcome, r.state.Describe())
	state := f.await("the Deployment is rolled out", func(s timeline.State) bool {
		return available(s.Deployment) && !s.Deployment.Spec.Paused
	})
	require.NotEmpty(f.t, r.analysed)
	require.Equal(f.t, r.analysed, state.UIDs(r.revision), "the pods that were analysed are those that serve")
	var sets appsv1.ReplicaSetList
	require.NoError(f.t, f.Client.List(f.t.Context(), &sets, client.InNamespace(f.namespace), client.MatchingLabels{timeline.LabelHash: r.revision}))
	require.Len(f.t, sets.Items, 1)
	owner := metav1.GetControllerOf(&sets.Items[0])
	require.NotNil(f.t, owner)
	require.Equal(f.t, appName, owner.Name)
}

// expectRolledBack: the run ended badly, the canary's pods are gone, and the Deployment is held.
func (f *fixture) expectRolledBack(r run) {
	f.t.Helper()
	require.Equal(f.t, v1alpha1.OutcomeRolledBack, r.outcome, r.state.Describe())
	require.Equal(f.t, v1alpha1.PhaseRejected, r.state.Canary.Status.Phase)
	state := f.await("the canary's pods are gone", func(s timeline.State) bool { return len(s.UIDs(r.revision)) == 0 })
	require.True(f.t, state.Deployment.Spec.Paused, "the Deployment stays held at the rejected template")
}

// expectNoFailures: no request failed. Errors that a version was told to answer may be excused.
func (f *fixture) expectNoFailures(excused ...string) load.Counts {
	f.t.Helper()
	counts := f.counts()
	failed := counts.Failed
	for _, version := range excused {
		failed -= counts.Versions[version].Failures[load.ClassStatus]
	}
	if failed > 0 {
		for _, sample := range counts.Samples {
			f.t.Logf("failed: %s %s %s fresh=%t: %s", sample.Time.Format("15:04:05.000"), sample.Method, sample.Class, sample.Fresh, sample.Detail)
		}
		require.Zero(f.t, failed, "of %d requests, beside what %v answered itself; by class %v", counts.Requests, excused, counts.Failures)
	}
	f.t.Logf("%d requests, p50 %.1f ms, p99 %.1f ms, %d failed of which %d excused", counts.Requests, counts.P50, counts.P99, counts.Failed, counts.Failed-failed)
	return counts
}

// reapply has Flux look twice more, as it would within two of its intervals.
func (f *fixture) reapply() {
	f.t.Helper()
	for range 2 {
		require.NoError(f.t, f.flux.AwaitReapplied(f.t.Context(), f.namespace))
	}
	f.passed("Flux has looked twice")
}

// expectFluxQuiet: Flux has changed the Deployment for commits only, each once, and nothing else after the
// first commit. Flux says that it has configured an object, too, when somebody else writes between its
// look at it and its trial; that must have been the controller, in the midst of a run.
func (f *fixture) expectFluxQuiet() {
	f.t.Helper()
	did, err := f.flux.Actions(f.commits[0].at)
	require.NoError(f.t, err)
	did = slices.DeleteFunc(did, func(action flux.Action) bool {
		return action.Kustomization != f.namespace || action.Verb == "created"
	})
	slices.SortStableFunc(did, func(a, b flux.Action) int { return a.Time.Compare(b.Time) })
	due := f.commits[1:]
	for _, action := range did {
		require.Equal(f.t, "Deployment/"+f.namespace+"/"+appName+" configured", action.Object+" "+action.Verb, "at %s", action.Revision)
		after := slices.IndexFunc(due, func(c commit) bool { return c.at.After(action.Time) })
		if after < 0 {
			after = len(due)
		}
		if after == 0 { // No commit since the last time.
			require.True(f.t, f.wrote(action.Time), "Flux configured the Deployment at %s", action.Time)
			f.t.Logf("Flux looked while the controller wrote, at %s", action.Time)
		}
		due = due[after:] // One look may find several.
	}
}

// wrote says that the controller has noted a deed at about a moment.
func (f *fixture) wrote(at time.Time) bool {
	const about = 5 * time.Second
	for _, run := range f.timeline.State().Runs {
		for _, entry := range run.Record.Entries {
			if entry.Time.Sub(at).Abs() <= about {
				return true
			}
		}
	}
	return false
}

// expectOneOwner: no field of the Deployment has two managers, so nobody takes it from another.
func (f *fixture) expectOneOwner() {
	f.t.Helper()
	var deployment appsv1.Deployment
	require.NoError(f.t, f.Client.Get(f.t.Context(), f.key(), &deployment))
	sets := map[string]*fieldpath.Set{}
	for _, entry := range deployment.ManagedFields {
		if entry.Subresource != "" {
			continue
		}
		set := &fieldpath.Set{}
		require.NoError(f.t, set.FromJSON(entry.FieldsV1.GetRawReader()))
		name := entry.Manager + " " + string(entry.Operation)
		for other, fields := range sets {
			both := fields.Leaves().Intersection(set.Leaves())
			require.True(f.t, both.Empty(), "%s and %s both own %s", name, other, both)
		}
		sets[name] = set
	}
}

// expectCancelled: the run ended without a verdict, and its pods are gone.
func (f *fixture) expectCancelled(name string) {
	f.t.Helper()
	f.await("run "+name+" is cancelled, and its pods are gone", func(s timeline.State) bool {
		r := s.Runs[name]
		return r != nil && r.Record.Outcome == v1alpha1.OutcomeCancelled && len(s.UIDs(r.Spec.Candidate.PodTemplateHash)) == 0
	})
}

// generation is the Deployment's: it counts changes of its spec.
func (f *fixture) generation() int64 {
	f.t.Helper()
	var deployment appsv1.Deployment
	require.NoError(f.t, f.Client.Get(f.t.Context(), f.key(), &deployment))
	return deployment.Generation
}

// weights lists the weights that all proxies acknowledged in a run, each once in its order.
func (r run) weights() []int32 {
	var out []int32
	for _, shift := range r.state.Shifts {
		if shift.Revision == r.revision && shift.Acknowledged && (len(out) == 0 || out[len(out)-1] != shift.Weight) {
			out = append(out, shift.Weight)
		}
	}
	return slices.Clip(out)
}
