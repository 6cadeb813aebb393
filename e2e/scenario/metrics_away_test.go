// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// TestMetricsAway: while Prometheus is away nothing goes on, however good it is, and the Canary says why.
// What is bad is taken back by what the proxies report. Once Prometheus is back, so are its verdicts.
func TestMetricsAway(t *testing.T) {
	t.Parallel()
	begin := func(namespace string) *fixture {
		f := start(t, namespace, sampleapp.App{
			Replicas: 2,
			Canary:   &sampleapp.Canary{Steps: steps(4*time.Second, 50, 100), Drain: 10 * time.Second, Prometheus: passageAddress},
		}, 60)
		return f
	}
	bad, good := begin(passageNamespace), begin("metrics-away-good")
	prometheus := bad.openPassage()
	good.release("v2")
	good.await("a weight is in force", underWay(""))
	prometheus.close()
	goodRun := good.awaitIgnorance()
	bad.release("v2", sampleapp.Faulty(20))
	r := bad.awaitRun("")
	bad.expectRolledBack(r)
	require.Contains(t, r.state.Canary.Status.Verdict.Reason, "(live, from ")
	bad.expectNoFailures("v2")
	good.linger(12 * time.Second)
	good.expectStillHeld(goodRun)

	prometheus.open(t)
	r = good.awaitRun("")
	require.Equal(t, goodRun.name, r.name)
	good.expectPromoted(r)
	good.expectNoFailures()
}

// awaitIgnorance returns when the gate knows nothing and the Canary says so.
func (f *fixture) awaitIgnorance() run {
	f.t.Helper()
	held := f.await("the gate knows nothing", func(s timeline.State) bool {
		status := s.Canary.Status
		return status.Phase == v1alpha1.PhaseHolding && status.Verdict != nil && status.Verdict.Verdict == string(analysis.VerdictHold) &&
			meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReconciling) &&
			meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReconciling).Reason == v1alpha1.ReasonMetricsUnavailable
	})
	require.Contains(f.t, held.Canary.Status.Verdict.Reason, "prometheus unavailable")
	return run{name: held.Canary.Status.Run, revision: held.LatestRun().Spec.Candidate.PodTemplateHash, state: held}
}

// expectStillHeld: a run stays at its weight, with the same pods, though its step has ended.
func (f *fixture) expectStillHeld(r run) {
	f.t.Helper()
	held, now := r.state, f.timeline.State()
	require.Equal(f.t, v1alpha1.PhaseHolding, now.Canary.Status.Phase, now.Describe())
	require.Equal(f.t, r.name, now.Canary.Status.Run)
	require.Equal(f.t, held.Canary.Status.Weight, now.Canary.Status.Weight, now.Describe())
	require.Equal(f.t, held.Canary.Status.Step, now.Canary.Status.Step)
	require.Empty(f.t, now.LatestRun().Record.Outcome)
	require.Equal(f.t, held.UIDs(r.revision), now.UIDs(r.revision))
	require.True(f.t, now.Deployment.Spec.Paused)
}
