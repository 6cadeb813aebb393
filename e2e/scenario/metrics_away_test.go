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
	"github.com/sluice-mesh/sluice/e2e/monitoring"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// TestMetricsAway: while Prometheus is away nothing is taken back, however bad it is, and nothing
// goes on, however good it is; the Canary says why. Once Prometheus is back, so are its verdicts.
func TestMetricsAway(t *testing.T) {
	f := start(t, "metrics-away", sampleapp.App{
		Replicas: 2, Canary: &sampleapp.Canary{Steps: steps(4*time.Second, 25, 100), Drain: 10 * time.Second},
	})
	f.load(100)

	f.scale(monitoring.Namespace, monitoring.Name, 0)
	f.release("v2", sampleapp.Faulty(20))
	bad := f.expectHeldWithoutMetrics()
	require.EqualValues(t, 25, bad.state.Canary.Status.Weight, "the first step")
	f.scale(monitoring.Namespace, monitoring.Name, 1)
	r := f.awaitRun("")
	require.Equal(t, bad.name, r.name)
	f.expectRolledBack(r)

	f.release("v3")
	f.await("v3 has its first weight", func(s timeline.State) bool {
		return s.Canary.Status.Run != bad.name && s.Canary.Status.Phase == v1alpha1.PhaseHolding
	})
	f.scale(monitoring.Namespace, monitoring.Name, 0)
	good := f.expectHeldWithoutMetrics()
	f.scale(monitoring.Namespace, monitoring.Name, 1)
	r = f.awaitRun(bad.name)
	require.Equal(t, good.name, r.name)
	f.expectPromoted(r)
	f.expectNoFailures("v2")
}

// expectHeldWithoutMetrics: the run stays at a weight for longer than its step asks, with the same
// pods, and the Canary says that it knows nothing.
func (f *fixture) expectHeldWithoutMetrics() run {
	f.t.Helper()
	held := f.await("the gate knows nothing", func(s timeline.State) bool {
		status := s.Canary.Status
		return status.Phase == v1alpha1.PhaseHolding && status.Verdict != nil && status.Verdict.Verdict == string(analysis.VerdictHold) &&
			meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReconciling) &&
			meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReconciling).Reason == v1alpha1.ReasonMetricsUnavailable
	})
	run := run{name: held.Canary.Status.Run, revision: held.LatestRun().Spec.Candidate.PodTemplateHash, state: held}
	require.Contains(f.t, held.Canary.Status.Verdict.Reason, "prometheus unavailable")

	f.linger(12 * time.Second)
	after := f.timeline.State()
	require.Equal(f.t, v1alpha1.PhaseHolding, after.Canary.Status.Phase, after.Describe())
	require.Equal(f.t, run.name, after.Canary.Status.Run)
	require.Equal(f.t, held.Canary.Status.Weight, after.Canary.Status.Weight, after.Describe())
	require.Equal(f.t, held.Canary.Status.Step, after.Canary.Status.Step)
	require.Empty(f.t, after.LatestRun().Record.Outcome)
	require.Equal(f.t, held.UIDs(run.revision), after.UIDs(run.revision))
	require.True(f.t, after.Deployment.Spec.Paused)
	return run
}
