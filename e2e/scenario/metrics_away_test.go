// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
		Replicas: 2, Canary: &sampleapp.Canary{Steps: steps(8*time.Second, 10, 50, 100), Drain: 10 * time.Second},
	})
	f.load(100)

	f.scalePrometheus(0)
	f.release("v2", sampleapp.Faulty(20))
	bad := f.expectHeldWithoutMetrics()
	require.EqualValues(t, 10, bad.state.Canary.Status.Weight, "the first step")
	f.scalePrometheus(1)
	r := f.awaitRun("")
	require.Equal(t, bad.name, r.name)
	f.expectRolledBack(r)

	f.release("v3")
	f.await("v3 has its first weight", func(s timeline.State) bool {
		return s.Canary.Status.Run != bad.name && s.Canary.Status.Phase == v1alpha1.PhaseHolding
	})
	f.scalePrometheus(0)
	good := f.expectHeldWithoutMetrics()
	f.scalePrometheus(1)
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

	f.linger(25 * time.Second)
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

// scalePrometheus takes Prometheus away or brings it back, and returns when that is done. It is back
// when the test ends.
func (f *fixture) scalePrometheus(replicas int32) {
	f.t.Helper()
	scale := func(ctx context.Context, replicas int32) error {
		deployments := f.Kube.AppsV1().Deployments(monitoring.Namespace)
		current, err := deployments.GetScale(ctx, monitoring.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		current.Spec.Replicas = replicas
		_, err = deployments.UpdateScale(ctx, monitoring.Name, current, metav1.UpdateOptions{})
		return err
	}
	settled := func(ctx context.Context, replicas int32) bool {
		deployment, err := f.Kube.AppsV1().Deployments(monitoring.Namespace).Get(ctx, monitoring.Name, metav1.GetOptions{})
		if err != nil {
			return false
		}
		pods, err := f.Kube.CoreV1().Pods(monitoring.Namespace).List(ctx, metav1.ListOptions{})
		return err == nil && len(pods.Items) == int(replicas) && deployment.Status.AvailableReplicas == replicas &&
			deployment.Status.ObservedGeneration >= deployment.Generation
	}
	require.NoError(f.t, scale(f.t.Context(), replicas))
	if replicas == 0 {
		ctx := context.WithoutCancel(f.t.Context())
		f.t.Cleanup(func() {
			assert.NoError(f.t, scale(ctx, 1))
			assert.Eventually(f.t, func() bool { return settled(ctx, 1) }, time.Minute, time.Second, "Prometheus is back")
		})
	}
	require.Eventually(f.t, func() bool { return settled(f.t.Context(), replicas) }, time.Minute, 300*time.Millisecond,
		"Prometheus has %d pods", replicas)
}
