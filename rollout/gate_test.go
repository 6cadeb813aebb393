// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// The gate is told of every step since the run's start, each from when its weight was acknowledged,
// also when the status's clock was stopped since.
func TestStepsOf(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	entry := func(minutes int, phase v1alpha1.Phase, weight int32) v1alpha1.RunEntry {
		return v1alpha1.RunEntry{Time: metav1.NewTime(at.Add(time.Duration(minutes) * time.Minute)), Phase: phase, Weight: weight}
	}
	canary := &v1alpha1.Canary{
		Spec: v1alpha1.CanarySpec{Steps: []v1alpha1.Step{
			{Weight: 5, Hold: metav1.Duration{Duration: time.Minute}}, {Weight: 25, Hold: metav1.Duration{Duration: time.Minute}}, {Weight: 100},
		}},
		Status: v1alpha1.CanaryStatus{Step: 1, Weight: 25, StepStartedAt: stamp(at.Add(7 * time.Minute))},
	}
	run := &v1alpha1.CanaryRun{Record: v1alpha1.CanaryRunRecord{Entries: []v1alpha1.RunEntry{
		entry(0, v1alpha1.PhaseScaling, 0), entry(1, v1alpha1.PhaseHolding, 5), entry(3, v1alpha1.PhaseScaling, 5), entry(4, v1alpha1.PhaseHolding, 25),
	}}}
	require.Equal(t, []analysis.Step{
		{StartedAt: at.Add(time.Minute + time.Second), Weight: 5},
		{StartedAt: at.Add(4*time.Minute + time.Second), Hold: time.Minute, Weight: 25, NextWeight: 100},
	}, stepsOf(canary, run, analysis.Step{}))

	run.Record.Entries = nil
	want := analysis.Step{StartedAt: at.Add(7*time.Minute + time.Second), Hold: time.Minute, Weight: 25, NextWeight: 100}
	require.Equal(t, []analysis.Step{want}, stepsOf(canary, run, analysis.Step{}))
	told := want
	told.StartedAt = at.Add(6 * time.Minute)
	require.Equal(t, []analysis.Step{told}, stepsOf(canary, run, told), "a stopped clock begins no step anew")
}

func TestGateOf(t *testing.T) {
	config, err := GateOf(v1alpha1.CanarySpec{})
	require.NoError(t, err)
	want := analysis.Defaults()
	want.Steps = 1
	require.Equal(t, want, config)

	rate := intstr.FromString("99.9")
	config, err = GateOf(v1alpha1.CanarySpec{
		Steps: make([]v1alpha1.Step, 6),
		Gate:  v1alpha1.Gate{SuccessRate: &rate, Latency: &v1alpha1.LatencyObjective{P99: metav1.Duration{Duration: time.Second}}},
	})
	require.NoError(t, err)
	require.Equal(t, analysis.Objectives{SuccessRate: 99.9, LatencyQuantile: 0.99, LatencyLimit: time.Second}, config.Objectives)
	require.Equal(t, 6, config.Steps)

	rate = intstr.FromString("much")
	_, err = GateOf(v1alpha1.CanarySpec{Gate: v1alpha1.Gate{SuccessRate: &rate}})
	require.ErrorContains(t, err, "spec.gate.successRate")
}

// While the workload has no replicas nobody can answer: what fails then is no evidence.
func TestEvidenceBeginsAnewAfterZeroReplicas(t *testing.T) {
	w := holdingAt(t, 10)
	run := w.seen.Runs[0]
	require.Equal(t, run.CreationTimestamp.Time, evidenceSince(&w.canary, &run))
	require.NotEmpty(t, stepsOf(&w.canary, &run, analysis.Step{}))
	require.Equal(t, rehearsal, rehearsed(&w.canary))

	w.seen.Target.Replicas = 0
	w.until(t, func() bool { return w.canary.Status.EvidenceSince != nil })
	w.seen.Target.Replicas = 3
	stopped := w.now
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseHolding && w.canary.Status.Weight == 10 })
	run = w.seen.Runs[0]
	require.False(t, evidenceSince(&w.canary, &run).Before(stopped))
	require.Len(t, stepsOf(&w.canary, &run, analysis.Step{}), 1, "steps before that are not judged again")
	require.Zero(t, rehearsed(&w.canary), "how stable's pods ended says nothing about how they differ")
}
