// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

func (w *world) annotate(annotation, value string) {
	w.canary.Annotations = map[string]string{annotation: value}
	w.canary.ManagedFields = []metav1.ManagedFieldsEntry{
		{Manager: "kustomize-controller", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)},
		{Manager: "kubectl-annotate", FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:annotations":{"f:` + annotation + `":{}}}}`)},
	}
}

// requests are what the record says was asked.
func (w *world) requests(run string) (out []v1alpha1.RunRequest) {
	for _, entry := range w.seen.run(run).Record.Entries {
		if entry.Request != nil {
			out = append(out, *entry.Request)
		}
	}
	return out
}

// Abort takes the traffic back in the same look, in every phase in which the run can still be ended,
// whatever else is the matter (flagger#1268, #1578: hooks and deadlines that were not honoured).
func TestAbortComesFirst(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*world)
	}{
		{"holding", func(*world) {}},
		{"the gate passes", func(w *world) { w.now = w.now.Add(time.Hour); w.seen.Gate = judged(analysis.VerdictPass) }},
		{"no metrics", func(w *world) { w.seen.Gate = &GateLook{Unavailable: "connection refused"} }},
		{"scaled to zero", func(w *world) { w.seen.Target.Replicas = 0 }},
		{"stable is not whole", func(w *world) { w.seen.set(w.canary.Status.Stable.ReplicaSet).Ready = 0 }},
		{"suspended", func(w *world) { w.canary.Spec.Suspend = true }},
		{"scaling", func(w *world) { w.canary.Status.Phase = v1alpha1.PhaseScaling }},
		{"shifting", func(w *world) { w.canary.Status.Phase = v1alpha1.PhaseShifting }},
		{"promoting", func(w *world) { w.canary.Status.Phase = v1alpha1.PhasePromoting }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := holdingAt(t, 50)
			c.change(w)
			run := w.canary.Status.Run
			w.annotate(v1alpha1.AnnotationAbort, run)
			decision := Plan(&w.canary, w.observe(), w.now)
			require.Equal(t, v1alpha1.PhaseRollingBack, decision.Status.Phase)
			require.Equal(t, WriteSplit{
				StableHash: w.canary.Status.Stable.PodTemplateHash, CanaryHash: w.canary.Status.Canary.PodTemplateHash,
				TotalWeight: v1alpha1.DefaultTotalWeight,
			}, decision.Effects[0])
			w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseRejected })
			require.Equal(t, v1alpha1.OutcomeRolledBack, w.seen.run(run).Record.Outcome)
			require.Equal(t, []v1alpha1.RunRequest{{Action: "abort", By: "kubectl-annotate"}}, w.requests(run))
		})
	}
}

// A request names a run; any other run does not hear it.
func TestRequestsOfAnotherRunAreVoid(t *testing.T) {
	for _, annotation := range []string{
		v1alpha1.AnnotationAbort, v1alpha1.AnnotationPromote, v1alpha1.AnnotationPause, v1alpha1.AnnotationRetry,
	} {
		w := holdingAt(t, 10)
		w.seen.Gate = judged(analysis.VerdictWait)
		without := Plan(&w.canary, w.observe(), w.now)
		w.annotate(annotation, "app-7")
		require.Equal(t, without, Plan(&w.canary, w.observe(), w.now), annotation)
	}
}

// A rejected template is tried again when people ask, once for each run that rejected it.
func TestRetry(t *testing.T) {
	w := holdingAt(t, 10)
	w.seen.Gate = judged(analysis.VerdictFail)
	rejected := func() bool { return w.canary.Status.Phase == v1alpha1.PhaseRejected && w.still() }
	w.until(t, rejected)
	w.annotate(v1alpha1.AnnotationRetry, "app-1")
	w.until(t, func() bool { return w.canary.Status.Run == "app-2" && w.canary.Status.Phase == v1alpha1.PhaseHolding })
	require.Equal(t, v1alpha1.RunCanary, w.seen.run("app-2").Spec.Kind, "it walks the steps")
	w.until(t, rejected)
	require.Equal(t, "app-2", w.canary.Status.Run, "the same request is not heard twice")

	w.annotate(v1alpha1.AnnotationRetry, "app-2")
	w.seen.Gate = judged(analysis.VerdictPass)
	w.until(t, func() bool {
		return w.canary.Status.Phase == v1alpha1.PhaseStable && w.canary.Status.Run == "app-3" && w.still()
	})
	require.Equal(t, "B", w.seen.serving().Template.Spec.Containers[0].Image)
}

// Promotion on request goes to the last step without gates, by the same handover.
func TestPromoteOnRequest(t *testing.T) {
	w := holdingAt(t, 10)
	w.seen.Gate = judged(analysis.VerdictWait)
	w.annotate(v1alpha1.AnnotationPromote, "app-1")
	weights := map[int32]bool{}
	w.until(t, func() bool {
		if w.seen.Split != nil {
			weights[w.seen.Split.CanaryWeight] = true
		}
		return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still()
	})
	require.Equal(t, "B", w.seen.serving().Template.Spec.Containers[0].Image)
	require.False(t, weights[50], "the step of 50 is skipped")
	require.Equal(t, v1alpha1.OutcomePromoted, w.seen.run("app-1").Record.Outcome)
	require.Contains(t, w.requests("app-1"), v1alpha1.RunRequest{Action: "promote", By: "kubectl-annotate"})
	require.Empty(t, w.violation)
}

// A paused run keeps its weight and its clock; a bad canary is taken back all the same, and metrics
// are looked at (Flagger freezes without checks).
func TestPause(t *testing.T) {
	w := holdingAt(t, 10)
	w.annotate(v1alpha1.AnnotationPause, "app-1")
	left := newPlanner(&w.canary, w.observe(), w.now).holdLeft()
	for range 600 {
		w.now = w.now.Add(time.Second)
		w.reconcile(false)
	}
	require.Equal(t, v1alpha1.PhaseHolding, w.canary.Status.Phase)
	require.Equal(t, v1alpha1.ReasonPaused, Plan(&w.canary, w.observe(), w.now).Standing.Reason)
	require.GreaterOrEqual(t, newPlanner(&w.canary, w.observe(), w.now).holdLeft(), left)

	paused := []v1alpha1.RunRequest{{Action: "pause", By: "kubectl-annotate"}}
	require.Equal(t, paused, w.requests("app-1"), "noted once")
	w.canary.Annotations, w.canary.ManagedFields = nil, nil
	w.reconcile(false)
	require.Equal(t, append(paused, v1alpha1.RunRequest{Action: "resume"}), w.requests("app-1"))

	w.annotate(v1alpha1.AnnotationPause, "app-1")
	w.seen.Gate = judged(analysis.VerdictFail)
	w.reconcile(false)
	require.Equal(t, v1alpha1.PhaseRollingBack, w.canary.Status.Phase)
}

// A pause that comes while pods are made for the next step leaves the step before under its gate.
func TestPauseWhileScalingFallsBack(t *testing.T) {
	w := holdingAt(t, 10)
	w.now = w.now.Add(time.Minute)
	w.reconcile(false)
	require.Equal(t, v1alpha1.PhaseScaling, w.canary.Status.Phase)
	w.annotate(v1alpha1.AnnotationPause, "app-1")
	w.reconcile(false)
	require.Equal(t, v1alpha1.PhaseHolding, w.canary.Status.Phase)
	require.EqualValues(t, 0, w.canary.Status.Step)
	require.EqualValues(t, 10, w.canary.Status.Weight)
}

// Stable's pods are replaced one by one while the Deployment is held, when kubectl can restart nothing.
func TestRestartBesideAHold(t *testing.T) {
	w := holdingAt(t, 10)
	w.seen.Gate = judged(analysis.VerdictFail)
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseRejected && w.still() })
	w.annotate(v1alpha1.AnnotationRestart, w.now.Format(time.RFC3339))
	w.seen.Outdated = []string{"old-1", "old-2"}
	require.Contains(t, Plan(&w.canary, w.observe(), w.now).Effects, EvictPod{Name: "old-1"})
	require.NotContains(t, Plan(&w.canary, w.observe(), w.now).Effects, EvictPod{Name: "old-2"}, "one by one")

	stable := w.seen.set(w.canary.Status.Stable.ReplicaSet)
	stable.Ready--
	decision := Plan(&w.canary, w.observe(), w.now)
	require.Empty(t, decision.Effects, "the one before is not ready yet")
	require.Equal(t, NextInterval, decision.Next)
	stable.Ready++

	w.seen.Outdated = nil
	w.reconcile(false)
	require.Equal(t, w.canary.Annotations[v1alpha1.AnnotationRestart], w.canary.Status.LastHandledRestartAt)
	require.True(t, w.still())

	w.annotate(v1alpha1.AnnotationRestart, w.now.Add(time.Hour).Format(time.RFC3339))
	decision = Plan(&w.canary, w.observe(), w.now)
	require.Empty(t, decision.Effects)
	require.Equal(t, w.now.Add(time.Hour).Unix(), decision.Wake.Unix(), "a restart in an hour")

	w.annotate(v1alpha1.AnnotationRestart, "soon")
	decision = Plan(&w.canary, w.observe(), w.now)
	require.Contains(t, decision.Events[0].Message, "RFC 3339")
	require.Equal(t, "soon", decision.Status.LastHandledRestartAt, "said once")
}

// Nothing restarts stable while weights or capacity move.
func TestRestartWaitsForARun(t *testing.T) {
	w := holdingAt(t, 50)
	w.annotate(v1alpha1.AnnotationRestart, w.now.Format(time.RFC3339))
	w.seen.Outdated = []string{"old-1"}
	require.NotContains(t, Plan(&w.canary, w.observe(), w.now).Effects, EvictPod{Name: "old-1"})
}

// Without analysis the steps still take their time, their capacity and their acknowledgements
// (Flagger reports success unseen).
func TestSkipAnalysis(t *testing.T) {
	w := holdingAt(t, 10)
	w.canary.Spec.SkipAnalysis = true
	w.seen.Gate = nil
	w.reconcile(false)
	require.Equal(t, v1alpha1.PhaseHolding, w.canary.Status.Phase, "the hold is not over")
	require.Nil(t, w.canary.Status.Verdict)
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() })
	require.Equal(t, "B", w.seen.serving().Template.Spec.Containers[0].Image)
	require.Empty(t, w.violation)
}
