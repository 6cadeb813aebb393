// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

func header(name, value string) []v1alpha1.RequestMatch {
	return []v1alpha1.RequestMatch{{Headers: []v1alpha1.HeaderMatch{{Name: name, Exact: &value}}}}
}

// heldAt brings a world to the moment in which B is held, under a Canary of the test's own.
func heldAt(t *testing.T, replicas int32, change func(*v1alpha1.CanarySpec)) *world {
	t.Helper()
	w := newWorld(1)
	w.seen.Target.Replicas, w.seen.Target.MaxSurge = replicas, 3
	change(&w.canary.Spec)
	w.push("A")
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() })
	w.push("B")
	w.seen.Gate = judged(analysis.VerdictPass)
	return w
}

func (w *world) holds(weight int32) func() bool {
	return func() bool {
		return w.canary.Status.Phase == v1alpha1.PhaseHolding && w.canary.Status.Weight == weight
	}
}

func (w *world) serves(image string) func() bool {
	return func() bool {
		serving := w.seen.serving()
		return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() &&
			serving != nil && serving.Template.Spec.Containers[0].Image == image
	}
}

func TestNeed(t *testing.T) {
	replicas := func(text string) *intstr.IntOrString {
		parsed := intstr.Parse(text)
		return &parsed
	}
	beta := header("x-team", "beta")
	for name, c := range map[string]struct {
		step    v1alpha1.Step
		preview []v1alpha1.RequestMatch
		surge   v1alpha1.Surge
		want    int32
	}{
		"weight":                      {step: v1alpha1.Step{Weight: 25}, want: 3},
		"matches":                     {step: v1alpha1.Step{Matches: beta}, want: 1},
		"a preview":                   {step: v1alpha1.Step{}, preview: beta, want: 1},
		"copies":                      {step: v1alpha1.Step{Mirror: &v1alpha1.Mirror{Percent: 35}}, want: 4},
		"more replicas":               {step: v1alpha1.Step{Weight: 5, Replicas: replicas("4")}, want: 4},
		"percent of the workload":     {step: v1alpha1.Step{Weight: 5, Replicas: replicas("31%")}, want: 4},
		"fewer than the weight needs": {step: v1alpha1.Step{Weight: 50, Replicas: replicas("2")}, want: 5},
		"more than the workload":      {step: v1alpha1.Step{Weight: 5, Replicas: replicas("50")}, want: 10},
		"as the Deployment surges":    {step: v1alpha1.Step{Weight: 100}, surge: v1alpha1.SurgeDeployment, want: 3},
		"below that":                  {step: v1alpha1.Step{Weight: 15}, surge: v1alpha1.SurgeDeployment, want: 2},
		"more replicas than surge":    {step: v1alpha1.Step{Weight: 5, Replicas: replicas("50%")}, surge: v1alpha1.SurgeDeployment, want: 3},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(1)
			w.seen.Target.Replicas, w.seen.Target.MaxSurge = 10, 3
			w.canary.Spec.Steps = []v1alpha1.Step{c.step, {Weight: 100}}
			w.canary.Spec.Preview, w.canary.Spec.Surge = c.preview, c.surge
			require.Equal(t, c.want, newPlanner(&w.canary, w.observe(), w.now).need())
		})
	}
}

// A/B: first those who match, compared with nobody, then everyone by weight.
func TestMatchesComeBeforeWeights(t *testing.T) {
	beta := header("x-team", "beta")
	w := heldAt(t, 4, func(spec *v1alpha1.CanarySpec) {
		spec.Steps = []v1alpha1.Step{{Matches: beta, Hold: metav1.Duration{Duration: 5 * time.Second}}, testStep(25), testStep(100)}
	})
	w.until(t, w.holds(0))
	require.Equal(t, beta, w.seen.Split.Routing.Matches)
	require.EqualValues(t, 1, w.seen.set(w.canary.Status.Canary.ReplicaSet).Replicas)
	decision := Plan(&w.canary, w.observe(), w.now)
	require.Contains(t, decision.Standing.Message, "weight 0 (matches only, not compared with stable)")
	step := stepOf(&w.canary)
	require.True(t, step.Alone)
	require.EqualValues(t, 25, step.NextWeight)
	require.True(t, gateIsDue(&w.canary))

	w.until(t, w.holds(25))
	require.Empty(t, w.seen.Split.Routing.Matches, "each step says anew what it matches")
	require.False(t, stepOf(&w.canary).Alone)
	w.until(t, w.serves("B"))
	require.Empty(t, w.violation)
}

// A canary that has no weight and only matches is drained like any other before its pods go.
func TestMatchesAreTakenBackBeforePodsGo(t *testing.T) {
	w := heldAt(t, 4, func(spec *v1alpha1.CanarySpec) {
		spec.Steps = []v1alpha1.Step{{Matches: header("x-team", "beta")}, testStep(100)}
	})
	w.until(t, w.holds(0))
	name := w.canary.Status.Canary.ReplicaSet
	w.seen.Gate = judged(analysis.VerdictFail)
	w.reconcile(false)
	require.Equal(t, v1alpha1.PhaseRollingBack, w.canary.Status.Phase)
	require.False(t, w.seen.Split.reaches())
	w.seen.Split.Open[w.canary.Status.Canary.PodTemplateHash] = 1
	w.seen.Split.Acknowledged = true
	w.reconcile(false)
	require.EqualValues(t, 1, w.seen.set(name).Replicas, "something is still open on it")
	w.seen.Split.Open = map[string]int64{}
	w.reconcile(false)
	require.Zero(t, w.seen.set(name).Replicas)
}

// Blue/green: the preview reaches the canary before any weight, and stays out of reach when it has no pods.
func TestPreviewComesBeforeTheFirstWeight(t *testing.T) {
	preview := header("x-preview", "yes")
	w := heldAt(t, 3, func(spec *v1alpha1.CanarySpec) {
		spec.Steps, spec.Preview = []v1alpha1.Step{testStep(100)}, preview
	})
	shown := func() bool { return w.seen.Split != nil && w.seen.Split.reaches() }
	w.until(t, shown)
	require.Zero(t, w.seen.Split.CanaryWeight)
	require.Equal(t, preview, w.seen.Split.Routing.Matches)
	require.Equal(t, v1alpha1.PhaseScaling, w.canary.Status.Phase)
	require.EqualValues(t, 3, w.seen.set(w.canary.Status.Canary.ReplicaSet).Ready, "blue/green has all its pods")

	w.seen.set(w.canary.Status.Canary.ReplicaSet).Ready = 0
	w.reconcile(false)
	require.False(t, w.seen.Split.reaches())

	w.until(t, w.holds(100))
	require.Equal(t, preview, w.seen.Split.Routing.Matches)
	w.until(t, w.serves("B"))
	require.Empty(t, w.violation)
}

// Copies prove nothing to the gate: a step that only mirrors lasts for its hold.
func TestMirrorOnlyStepLastsForItsHold(t *testing.T) {
	w := heldAt(t, 4, func(spec *v1alpha1.CanarySpec) {
		spec.Steps = []v1alpha1.Step{{Mirror: &v1alpha1.Mirror{Percent: 50}, Hold: metav1.Duration{Duration: 5 * time.Second}}, testStep(100)}
	})
	w.until(t, w.holds(0))
	require.Equal(t, &v1alpha1.Mirror{Percent: 50}, w.seen.Split.Routing.Mirror)
	require.EqualValues(t, 2, w.seen.set(w.canary.Status.Canary.ReplicaSet).Ready)
	s := &scene{Observed: w.observe(), canary: &w.canary}
	look := (&gateway{}).look(t.Context(), s, w.now)
	require.Equal(t, analysis.VerdictPass, look.Judgement.Verdict, "no source is asked")
	w.seen.Gate = look
	w.until(t, w.holds(100))
	require.Nil(t, w.seen.Split.Routing.Mirror)
	require.Empty(t, w.violation)
}

func TestStickinessIsInEverySplit(t *testing.T) {
	sticky := &v1alpha1.Stickiness{Header: &v1alpha1.StickyHeader{Name: "x-customer"}}
	w := heldAt(t, 4, func(spec *v1alpha1.CanarySpec) { spec.Stickiness = sticky })
	for _, weight := range []int32{10, 50, 100} {
		w.until(t, w.holds(weight))
		require.Equal(t, sticky, w.seen.Split.Routing.Stickiness)
	}
}

// The bake: stable stays whole beside a canary that has everything, and one write takes it all back.
func TestBakeIsOneFlipFromStable(t *testing.T) {
	w := holdingAt(t, 100)
	stable := w.canary.Status.Stable.ReplicaSet
	require.EqualValues(t, 3, w.seen.set(stable).Ready)
	require.True(t, w.seen.set(stable).Owned)
	w.push("A")
	decision := Plan(&w.canary, w.observe(), w.now)
	require.Equal(t, v1alpha1.PhaseRollingBack, decision.Status.Phase)
	require.IsType(t, WriteSplit{}, decision.Effects[0])
	require.Zero(t, decision.Effects[0].(WriteSplit).CanaryWeight)
	for _, effect := range decision.Effects {
		_, scales := effect.(ScaleSet)
		require.False(t, scales, "traffic goes before pods")
	}
}

// With few spare pods the weight is what they carry, and the Deployment's rolling update does the rest
// with the very pods that were analysed (run B6).
func TestSurgeAsTheDeployment(t *testing.T) {
	w := heldAt(t, 10, func(spec *v1alpha1.CanarySpec) { spec.Surge = v1alpha1.SurgeDeployment })
	w.until(t, w.holds(10))
	w.until(t, w.holds(30))
	require.EqualValues(t, 1, w.canary.Status.Step, "50 is more than 3 of 10 pods carry")
	w.until(t, func() bool { return w.canary.Status.Step == 2 && w.holds(30)() })
	canary, stable := w.canary.Status.Canary.ReplicaSet, w.canary.Status.Stable.ReplicaSet
	require.EqualValues(t, 3, w.seen.set(canary).Replicas)
	w.until(t, func() bool { return w.seen.set(canary).Owned })
	require.True(t, w.seen.set(stable).Owned, "stable is not taken out: the rolling update replaces it")
	require.EqualValues(t, 10, w.seen.set(stable).Replicas)
	w.until(t, func() bool { return !w.seen.Target.Paused })

	// The rolling update, by hand.
	for _, c := range []struct{ canary, stable, weight int32 }{{5, 8, 38}, {8, 4, 66}, {10, 1, 90}} {
		for name, ready := range map[string]int32{canary: c.canary, stable: c.stable} {
			set := w.seen.set(name)
			set.Replicas, set.Pods, set.Ready = ready, ready, ready
		}
		w.reconcile(false)
		require.Equal(t, c.weight, w.seen.Split.CanaryWeight)
		require.Equal(t, v1alpha1.PhasePromoting, w.canary.Status.Phase)
	}
	w.until(t, w.serves("B"))
	require.Nil(t, w.seen.Split)
	require.Equal(t, canary, w.seen.serving().Name)
	require.Empty(t, w.violation)
}

func TestSurgeAsADeploymentThatDoesNot(t *testing.T) {
	w := newWorld(1)
	w.seen.Target.MaxSurge = 0
	w.canary.Spec.Surge = v1alpha1.SurgeDeployment
	decision := Plan(&w.canary, w.observe(), w.now)
	require.Equal(t, v1alpha1.ReasonInvalidSpec, decision.Standing.Reason)
	require.Contains(t, decision.Standing.Message, "spec.surge")
}

// A revert that lands in the middle of the rolling update is a run of its own that goes back.
func TestSurgeAsTheDeploymentIsReverted(t *testing.T) {
	w := heldAt(t, 10, func(spec *v1alpha1.CanarySpec) { spec.Surge = v1alpha1.SurgeDeployment })
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhasePromoting && !w.seen.Target.Paused })
	w.push("A")
	w.until(t, w.serves("A"))
	require.Equal(t, v1alpha1.RunReturn, w.seen.Runs[0].Spec.Kind)
	require.Empty(t, w.violation)
}

// Pods that die take their share of the traffic with them, and it comes back with an acknowledgement.
func TestPodsThatDieLowerTheWeight(t *testing.T) {
	w := heldAt(t, 4, func(*v1alpha1.CanarySpec) {})
	w.until(t, w.holds(50))
	canary := w.seen.set(w.canary.Status.Canary.ReplicaSet)
	require.EqualValues(t, 2, canary.Ready)
	w.reconcile(false)
	canary.Ready = 1
	w.reconcile(false)
	require.Equal(t, v1alpha1.PhaseScaling, w.canary.Status.Phase)
	require.EqualValues(t, 25, w.seen.Split.CanaryWeight)
	require.EqualValues(t, 25, w.canary.Status.Weight)
	require.EqualValues(t, 2, canary.Replicas)
	w.reconcile(false)
	require.EqualValues(t, 25, w.seen.Split.CanaryWeight, "it stays there")

	canary.Ready = 2
	w.reconcile(false)
	require.Equal(t, v1alpha1.PhaseShifting, w.canary.Status.Phase)
	w.reconcile(false)
	require.EqualValues(t, 50, w.seen.Split.CanaryWeight)
	w.reconcile(false)
	require.Equal(t, v1alpha1.PhaseShifting, w.canary.Status.Phase, "the proxies have not acknowledged it")
	w.seen.Split.Acknowledged = true
	w.reconcile(false)
	require.Equal(t, v1alpha1.PhaseHolding, w.canary.Status.Phase)
	require.Empty(t, w.violation)
}

// A brake is against what is new: the pods that die in a run that stands still are made again, and the
// weight comes back with them and rises no further.
func TestPodsThatDieWhileTheRunStandsStill(t *testing.T) {
	for name, brake := range map[string]func(*world){
		"paused": func(w *world) {
			w.canary.Annotations = map[string]string{v1alpha1.AnnotationPause: w.canary.Status.Run}
		},
		"frozen":  func(w *world) { w.canary.Spec.Freezes = []v1alpha1.FreezeWindow{window("* * * * *", "1h", "")} },
		"waiting": func(w *world) { w.seen.Dependencies = []Dependency{{Namespace: "shop", Name: "other"}} },
	} {
		for _, left := range []int32{0, 1} {
			t.Run(fmt.Sprintf("%s, %d left", name, left), func(t *testing.T) {
				w := heldAt(t, 3, func(spec *v1alpha1.CanarySpec) {
					spec.TotalWeight = 1000
					spec.Steps = []v1alpha1.Step{testStep(200), testStep(500), testStep(1000)}
				})
				w.until(t, w.holds(500))
				brake(w)
				w.reconcile(false)
				w.seen.set(w.canary.Status.Canary.ReplicaSet).Ready = left
				w.reconcile(false)
				require.EqualValues(t, 333*left, w.seen.Split.CanaryWeight)
				w.until(t, w.holds(500))
				require.EqualValues(t, 2, w.seen.set(w.canary.Status.Canary.ReplicaSet).Ready)
				for range 50 {
					w.goOn()
				}
				require.EqualValues(t, 500, w.seen.Split.CanaryWeight, "no higher than before")
				require.Empty(t, w.violation)
			})
		}
	}
}

// What the run has had is counted in today's parts: an edit of totalWeight lifts no brake.
func TestHighestWeight(t *testing.T) {
	for _, c := range []struct{ total, want int32 }{{0, 25}, {1000, 250}, {10, 2}} {
		canary := &v1alpha1.Canary{}
		canary.Spec.TotalWeight = c.total
		p := newPlanner(canary, Observed{}, time.Time{})
		require.Zero(t, p.highest())
		p.run = &v1alpha1.CanaryRun{Record: v1alpha1.CanaryRunRecord{Entries: []v1alpha1.RunEntry{
			{Phase: v1alpha1.PhaseHolding, Weight: 10}, {Phase: v1alpha1.PhaseHolding, Weight: 250, TotalWeight: 1000},
			{Phase: v1alpha1.PhaseShifting, Weight: 50}, {Phase: v1alpha1.PhaseHolding, Weight: 20},
		}}}
		require.Equal(t, c.want, p.highest())
	}
}

// What loses weight keeps what else its step says.
func TestPodsThatDieKeepTheMatches(t *testing.T) {
	beta := header("x-team", "beta")
	w := heldAt(t, 4, func(spec *v1alpha1.CanarySpec) {
		spec.Steps = []v1alpha1.Step{{Weight: 50, Matches: beta, Hold: metav1.Duration{Duration: time.Minute}}, testStep(100)}
	})
	w.until(t, w.holds(50))
	w.reconcile(false)
	w.seen.set(w.canary.Status.Canary.ReplicaSet).Ready = 1
	w.reconcile(false)
	require.EqualValues(t, 25, w.seen.Split.CanaryWeight)
	require.Equal(t, beta, w.seen.Split.Routing.Matches)
}

// An autoscaler that asks for more pods has not made those that are there weaker.
func TestMoreReplicasDoNotLowerTheWeight(t *testing.T) {
	w := heldAt(t, 4, func(spec *v1alpha1.CanarySpec) {
		spec.Steps = []v1alpha1.Step{{Weight: 50, Hold: metav1.Duration{Duration: time.Hour}}, testStep(100)}
	})
	w.until(t, w.holds(50))
	w.reconcile(false)
	w.seen.Target.Replicas = 8
	w.reconcile(false)
	require.True(t, w.holds(50)())
	require.EqualValues(t, 4, w.seen.set(w.canary.Status.Canary.ReplicaSet).Replicas)
}

// A bad canary is taken back while its pods are waited for, too.
func TestBadCanaryIsRolledBackWhileItsPodsAreAwaited(t *testing.T) {
	for _, phase := range []v1alpha1.Phase{v1alpha1.PhaseScaling, v1alpha1.PhaseShifting} {
		t.Run(string(phase), func(t *testing.T) {
			w := heldAt(t, 4, func(*v1alpha1.CanarySpec) {})
			w.until(t, func() bool { return w.canary.Status.Phase == phase && w.canary.Status.StepStartedAt != nil })
			w.seen.Gate = judged(analysis.VerdictFail)
			w.reconcile(false)
			require.Equal(t, v1alpha1.PhaseRollingBack, w.canary.Status.Phase)
			require.Zero(t, w.seen.Split.CanaryWeight)
			require.Equal(t, "fail", w.canary.Status.Verdict.Verdict)
		})
	}
}

// Of several steps at the same weight an edit neither skips one nor begins anew.
func TestAlignAmongStepsOfOneWeight(t *testing.T) {
	a, b, c := header("x", "a"), header("x", "b"), header("x", "c")
	for name, test := range map[string]struct {
		steps        []v1alpha1.Step
		step, weight int32
		surge        v1alpha1.Surge
		want         int32
	}{
		"third of three without weight": {[]v1alpha1.Step{{Matches: a}, {Matches: b}, {Matches: c}, {Weight: 100}}, 2, 0, "", 2},
		"first of three without weight": {[]v1alpha1.Step{{Matches: a}, {Matches: b}, {Matches: c}, {Weight: 100}}, 0, 0, "", 0},
		"steps without weight are gone": {[]v1alpha1.Step{{Weight: 5}, {Weight: 100}}, 2, 0, "", 0},
		"capped by the surge":           {[]v1alpha1.Step{{Weight: 5}, {Weight: 50}, {Weight: 70}, {Weight: 100}}, 1, 30, v1alpha1.SurgeDeployment, 1},
		"capped, later":                 {[]v1alpha1.Step{{Weight: 5}, {Weight: 50}, {Weight: 70}, {Weight: 100}}, 2, 30, v1alpha1.SurgeDeployment, 2},
		"capped, a step was inserted":   {[]v1alpha1.Step{{Weight: 5}, {Weight: 10}, {Weight: 50}, {Weight: 100}}, 1, 30, v1alpha1.SurgeDeployment, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(1)
			w.seen.Target.Replicas, w.seen.Target.MaxSurge = 10, 3
			w.canary.Generation = 2
			w.canary.Spec.Steps, w.canary.Spec.Surge = test.steps, test.surge
			w.canary.Status = v1alpha1.CanaryStatus{
				Phase: v1alpha1.PhaseHolding, ObservedGeneration: 1, Step: test.step, Weight: test.weight, TotalWeight: 100, Run: "app-1",
			}
			w.seen.Runs = []v1alpha1.CanaryRun{{ObjectMeta: metav1.ObjectMeta{Name: "app-1"}}}
			p := newPlanner(&w.canary, w.observe(), w.now)
			p.align()
			require.Equal(t, test.want, p.status.Step)
		})
	}
}
