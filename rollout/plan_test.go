// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// holdingAt brings a world to the gate of a step: 3 replicas, A stable, B the canary.
func holdingAt(t *testing.T, weight int32) *world {
	t.Helper()
	w := newWorld(1)
	w.push("A")
	settled := func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() }
	w.until(t, settled)
	w.push("B")
	w.seen.Gate = &GateLook{Judgement: analysis.Judgement{Verdict: analysis.VerdictPass, Reason: "good"}}
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseHolding && w.canary.Status.Weight == weight })
	return w
}

func (w *world) until(t *testing.T, done func() bool) {
	t.Helper()
	for range 200 {
		if done() {
			return
		}
		w.goOn()
	}
	t.Fatalf("not reached; phase %s", w.canary.Status.Phase)
}

// goOn: look again after a second in which everything went as it should.
func (w *world) goOn() {
	w.now = w.now.Add(time.Second)
	w.controller()
	w.kubelet(true)
	if w.seen.Split != nil {
		w.seen.Split.Acknowledged = true
	}
	w.reconcile(false)
}

func TestHoldingActsOnVerdicts(t *testing.T) {
	for _, c := range []struct {
		name    string
		gate    *GateLook
		elapsed time.Duration
		phase   v1alpha1.Phase
		reason  string
	}{
		{"pass before the hold is over", judged(analysis.VerdictPass), 0, v1alpha1.PhaseHolding, v1alpha1.ReasonProgressing},
		{"pass after the hold", judged(analysis.VerdictPass), time.Minute, v1alpha1.PhaseScaling, v1alpha1.ReasonProgressing},
		{"wait after the hold", judged(analysis.VerdictWait), time.Hour, v1alpha1.PhaseHolding, v1alpha1.ReasonProgressing},
		{"hold for a day", judged(analysis.VerdictHold), 24 * time.Hour, v1alpha1.PhaseHolding, v1alpha1.ReasonInconclusive},
		{"fail at once", judged(analysis.VerdictFail), 0, v1alpha1.PhaseRollingBack, v1alpha1.ReasonRollingBack},
		{"no metrics", &GateLook{Unavailable: "connection refused"}, time.Hour, v1alpha1.PhaseHolding, v1alpha1.ReasonMetricsUnavailable},
		{"not looked", nil, time.Hour, v1alpha1.PhaseHolding, v1alpha1.ReasonProgressing},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := holdingAt(t, 10)
			clock := clocktesting.NewFakePassiveClock(w.now)
			clock.SetTime(w.now.Add(c.elapsed))
			seen := w.observe()
			seen.Gate = c.gate
			decision := Plan(&w.canary, seen, clock.Now())
			require.Equal(t, c.phase, decision.Status.Phase)
			require.Equal(t, c.reason, decision.Standing.Reason)
			if c.phase == v1alpha1.PhaseRollingBack {
				require.IsType(t, WriteSplit{}, decision.Effects[0], "traffic leaves in the same breath")
				require.Zero(t, decision.Status.Weight)
			}
		})
	}
}

func judged(verdict analysis.Verdict) *GateLook {
	return &GateLook{Judgement: analysis.Judgement{Verdict: verdict, Reason: "because"}}
}

// While nothing is known the step's clock stands: the hold that was left is left afterwards.
func TestStepClockStandsWithoutMetrics(t *testing.T) {
	w := holdingAt(t, 10)
	before := newPlanner(&w.canary, w.observe(), w.now).holdLeft()
	for range 600 {
		w.now = w.now.Add(time.Second)
		w.seen.Gate = &GateLook{Unavailable: "connection refused"}
		w.reconcile(false)
	}
	after := newPlanner(&w.canary, w.observe(), w.now).holdLeft()
	require.GreaterOrEqual(t, after, before)
	require.Equal(t, v1alpha1.PhaseHolding, w.canary.Status.Phase)
}

// Steps that are edited in mid-run never make the weight jump up.
func TestEditedSteps(t *testing.T) {
	for _, c := range []struct {
		name   string
		steps  []v1alpha1.Step
		weight int32
		step   int32
	}{
		{"untouched", []v1alpha1.Step{testStep(10), testStep(50), testStep(100)}, 50, 1},
		{"a lower one", []v1alpha1.Step{testStep(10), testStep(40), testStep(100)}, 40, 1},
		{"more below", []v1alpha1.Step{testStep(5), testStep(10), testStep(50), testStep(100)}, 50, 2},
		{"only higher ones", []v1alpha1.Step{testStep(60), testStep(100)}, 50, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := holdingAt(t, 50)
			w.canary.Spec.Steps = c.steps
			w.canary.Generation++
			w.seen.Gate = judged(analysis.VerdictWait)
			for range 5 {
				w.reconcile(false)
				if w.seen.Split != nil {
					w.seen.Split.Acknowledged = true
				}
			}
			require.Equal(t, v1alpha1.PhaseHolding, w.canary.Status.Phase)
			require.Equal(t, c.weight, w.canary.Status.Weight)
			require.Equal(t, c.step, w.canary.Status.Step)
			w.seen.Gate = judged(analysis.VerdictPass)
			w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable })
			require.Equal(t, "B", w.seen.serving().Template.Spec.Containers[0].Image)
		})
	}
}

// Time in which the Canary was suspended is no evidence and passes no deadline.
func TestSuspendStopsEverything(t *testing.T) {
	w := holdingAt(t, 10)
	w.canary.Spec.Suspend = true
	w.canary.Generation++
	w.canary.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Reason: v1alpha1.ReasonSuspended}}
	w.now = w.now.Add(time.Hour)
	decision := Plan(&w.canary, w.observe(), w.now)
	require.Empty(t, decision.Effects)
	require.Equal(t, v1alpha1.ReasonSuspended, decision.Standing.Reason)
	require.Equal(t, w.canary.Generation, decision.Status.ObservedGeneration)

	w.canary.Spec.Suspend = false
	decision = Plan(&w.canary, w.observe(), w.now)
	require.Equal(t, v1alpha1.PhaseHolding, decision.Status.Phase, "the hold begins anew")
}

func TestNeeded(t *testing.T) {
	for _, c := range []struct{ weight, total, replicas, want int32 }{
		{0, 100, 10, 0}, {1, 100, 10, 1}, {10, 100, 10, 1}, {11, 100, 10, 2}, {25, 100, 4, 1}, {50, 100, 3, 2},
		{99, 100, 10, 10}, {100, 100, 10, 10}, {5, 100, 0, 0}, {5, 100, 1, 1},
		{1, 100_000, 10, 1}, {10_000, 100_000, 10, 1}, {10_001, 100_000, 10, 2}, {100_000, 100_000, 50_000, 50_000},
	} {
		require.Equal(t, c.want, needed(c.weight, c.total, c.replicas), "%d of %d with %d replicas", c.weight, c.total, c.replicas)
	}
}

// What is carried needs no more pods than there are, and one part more would.
func TestCarriedIsTheReverseOfNeeded(t *testing.T) {
	for _, total := range []int32{100, 101, 1000, 100_000} {
		for replicas := int32(1); replicas <= 60; replicas++ {
			for ready := int32(0); ready <= replicas; ready++ {
				weight := carried(ready, total, replicas)
				require.LessOrEqual(t, needed(weight, total, replicas), ready)
				if ready > 0 && ready < replicas {
					require.Greater(t, needed(weight+1, total, replicas), ready)
				}
			}
			require.Equal(t, total, carried(replicas+1, total, replicas))
		}
	}
}

func TestPercent(t *testing.T) {
	for _, c := range []struct{ weight, total, want int32 }{
		{0, 100, 0}, {5, 100, 5}, {100, 0, 100}, {1, 100_000, 1}, {1499, 100_000, 1}, {1500, 100_000, 2}, {100_000, 100_000, 100},
	} {
		require.Equal(t, c.want, percent(c.weight, c.total), "%d of %d", c.weight, c.total)
	}
}

// Whoever edits totalWeight in mid-run changes no request's way upwards.
func TestEditedTotalWeight(t *testing.T) {
	w := holdingAt(t, 50)
	w.canary.Spec.TotalWeight = 1000
	w.canary.Spec.Steps = []v1alpha1.Step{testStep(3), testStep(400), testStep(1000)}
	w.canary.Generation++
	w.seen.Gate = judged(analysis.VerdictWait)
	for range 5 {
		w.reconcile(false)
		w.seen.Split.Acknowledged = true
	}
	require.Empty(t, w.violation)
	require.Equal(t, v1alpha1.PhaseHolding, w.canary.Status.Phase)
	require.EqualValues(t, 400, w.canary.Status.Weight)
	require.EqualValues(t, 1000, w.canary.Status.TotalWeight)
	require.EqualValues(t, 1, w.canary.Status.Step)
	require.EqualValues(t, 400, w.seen.Split.CanaryWeight)
	require.EqualValues(t, 1000, w.seen.Split.TotalWeight)
	w.seen.Gate = judged(analysis.VerdictPass)
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable })
	require.Equal(t, "B", w.seen.serving().Template.Spec.Containers[0].Image)
}

func TestSameRelease(t *testing.T) {
	base := template("app:v1")
	for _, c := range []struct {
		name          string
		change        func(*corev1.PodTemplateSpec)
		same, release bool
	}{
		{"nothing", func(*corev1.PodTemplateSpec) {}, true, true},
		{"hash label", func(s *corev1.PodTemplateSpec) { s.Labels["pod-template-hash"] = "abc" }, true, true},
		{"image", func(s *corev1.PodTemplateSpec) { s.Spec.Containers[0].Image = "app:v2" }, false, false},
		{"restart", func(s *corev1.PodTemplateSpec) {
			s.Annotations = map[string]string{"kubectl.kubernetes.io/restartedAt": "now"}
		}, false, true},
		{"annotation", func(s *corev1.PodTemplateSpec) { s.Annotations = map[string]string{"a": "b"} }, false, false},
		{"server defaults", func(s *corev1.PodTemplateSpec) {
			grace := int64(30)
			s.Spec.TerminationGracePeriodSeconds = &grace
			s.Spec.RestartPolicy, s.Spec.DNSPolicy, s.Spec.SchedulerName = corev1.RestartPolicyAlways, corev1.DNSClusterFirst, "default-scheduler"
			s.Spec.SecurityContext = &corev1.PodSecurityContext{}
			s.Spec.Containers[0].TerminationMessagePath = "/dev/termination-log"
			s.Spec.Containers[0].ImagePullPolicy = corev1.PullIfNotPresent
		}, false, true},
		{"another grace period", func(s *corev1.PodTemplateSpec) {
			grace := int64(60)
			s.Spec.TerminationGracePeriodSeconds = &grace
		}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			other := *base.DeepCopy()
			c.change(&other)
			require.Equal(t, c.same, sameTemplate(base, other))
			require.Equal(t, c.release, sameRelease(base, other))
			recorded, err := revisionOf("rs", "hash", other)
			require.NoError(t, err)
			require.Equal(t, c.release, recordedSame(recorded, base))
		})
	}
}
