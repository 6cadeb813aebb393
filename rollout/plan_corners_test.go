// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/hook"
)

// Corners of the plan that random worlds seldom come to. Each was found by breaking the plan there on
// purpose (make mutation) and seeing no test fail.

// corner is a planner in the midst of a run: four replicas, steps 10, 50 and 100, all as it should be.
func corner(phase v1alpha1.Phase, step, weight int32, change func(*v1alpha1.Canary, *Observed)) *planner {
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	canary := &v1alpha1.Canary{ObjectMeta: metav1.ObjectMeta{
		Name: "app", Namespace: "shop", Finalizers: []string{v1alpha1.FinalizerCanary}, Annotations: map[string]string{},
	}}
	canary.Spec.Steps = []v1alpha1.Step{testStep(10), testStep(50), testStep(100)}
	ready := needed(max(weight, canary.Spec.Steps[step].Weight), 100, 4)
	canary.Status = v1alpha1.CanaryStatus{
		Phase: phase, Run: "app-1", Step: step, Weight: weight, TotalWeight: 100, PhaseStartedAt: stamp(now.Add(-time.Second)),
		Stable: &v1alpha1.RevisionStatus{ReplicaSet: "app-s", PodTemplateHash: "s"},
		Canary: &v1alpha1.RevisionStatus{ReplicaSet: "app-k", PodTemplateHash: "k", Replicas: ready, ReadyReplicas: ready},
	}
	seen := Observed{
		Target: &Target{Name: "app", Canary: "app", Hold: "app-1", Paused: true, Template: template("B"), Replicas: 4, MaxSurge: 1, ProgressDeadline: time.Minute},
		Sets: []Set{
			{Name: "app-s", Hash: "s", Template: template("A"), Owned: true, Replicas: 4, Pods: 4, Ready: 4, Revision: 1},
			{Name: "app-k", Hash: "k", Template: template("B"), Replicas: ready, Pods: ready, Ready: ready},
		},
		Split: &Split{StableHash: "s", CanaryHash: "k", CanaryWeight: weight, TotalWeight: 100, Acknowledged: true, Open: map[string]int64{}},
		Runs:  []v1alpha1.CanaryRun{{ObjectMeta: metav1.ObjectMeta{Name: "app-1"}}},
		Gate:  judged(analysis.VerdictPass),
	}
	seen.Runs[0].Spec.Stable, _ = revisionOf("app-s", "s", template("A"))
	seen.Runs[0].Spec.Candidate, _ = revisionOf("app-k", "k", template("B"))
	if change != nil {
		change(canary, &seen)
	}
	return newPlanner(canary, seen, now)
}

func (p *planner) decided() Decision {
	p.decide()
	return p.conclude()
}

// does says whether a decision has an effect like this one.
func does[E Effect](decision Decision, like func(E) bool) bool {
	return slices.ContainsFunc(decision.Effects, func(effect Effect) bool {
		e, ok := effect.(E)
		return ok && like(e)
	})
}

func whatever[E Effect](E) bool { return true }

// Whoever takes the hold's label off in the midst of a run finds it back after the next look.
func TestTheHoldIsKeptInEachPhase(t *testing.T) {
	for name, p := range map[string]*planner{
		"Scaling":     corner(v1alpha1.PhaseScaling, 1, 10, nil),
		"Shifting":    corner(v1alpha1.PhaseShifting, 1, 10, nil),
		"Holding":     corner(v1alpha1.PhaseHolding, 1, 50, nil),
		"RollingBack": corner(v1alpha1.PhaseRollingBack, 1, 0, nil),
		"Promoting":   corner(v1alpha1.PhasePromoting, 2, 100, nil),
		"Promoting, paused": corner(v1alpha1.PhasePromoting, 2, 100, func(c *v1alpha1.Canary, _ *Observed) {
			c.Annotations[v1alpha1.AnnotationPause] = "app-1"
		}),
		"Promoting, too small": corner(v1alpha1.PhasePromoting, 2, 100, func(_ *v1alpha1.Canary, seen *Observed) { seen.Target.Replicas = 5 }),
		"Promoting, surging": corner(v1alpha1.PhasePromoting, 2, 25, func(c *v1alpha1.Canary, seen *Observed) {
			c.Spec.Surge = v1alpha1.SurgeDeployment
			seen.Sets[1].Replicas, seen.Sets[1].Pods, seen.Sets[1].Ready = 1, 1, 1
		}),
	} {
		t.Run(name, func(t *testing.T) {
			p.seen.Target.Hold = ""
			require.True(t, does(p.decided(), func(e MarkTarget) bool { return e.Hold == "app-1" }))
		})
	}
}

// What a handover that has to wait does meanwhile.
func TestHandoverThatWaits(t *testing.T) {
	paused := func(c *v1alpha1.Canary) { c.Annotations[v1alpha1.AnnotationPause] = "app-1" }
	p := corner(v1alpha1.PhasePromoting, 2, 100, func(c *v1alpha1.Canary, seen *Observed) {
		paused(c)
		seen.Target.Replicas = 6
	})
	require.True(t, does(p.decided(), func(e ScaleSet) bool { return e.Name == "app-k" && e.Replicas == 6 }), "a paused one follows the autoscaler")
	p = corner(v1alpha1.PhasePromoting, 2, 100, func(c *v1alpha1.Canary, seen *Observed) {
		paused(c)
		seen.Sets[0].Owned = false
	})
	require.True(t, does(p.decided(), func(e GiveBackSet) bool { return e.Name == "app-s" }), "an autoscaler must find stable")
	p = corner(v1alpha1.PhasePromoting, 2, 100, func(c *v1alpha1.Canary, seen *Observed) {
		c.Status.PhaseStartedAt = stamp(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC))
		seen.Target.Replicas, seen.Sets[1].Replicas = 5, 5
	})
	require.Equal(t, v1alpha1.PhasePromoting, p.decided().Status.Phase, "pods that were asked for just now have their deadline")
}

// Where the canary's pods are too few when a weight is to be written, or none are wanted any more.
func TestShiftingWithoutPods(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.Canary, *Observed){
		"none is ready":   func(_ *v1alpha1.Canary, seen *Observed) { seen.Sets[1].Ready = 0 },
		"one is ready":    func(_ *v1alpha1.Canary, seen *Observed) { seen.Sets[1].Ready = 1 },
		"the set is gone": func(_ *v1alpha1.Canary, seen *Observed) { seen.Sets = seen.Sets[:1] },
		"none is wanted":  func(_ *v1alpha1.Canary, seen *Observed) { seen.Target.Replicas = 0 },
		"none, no traffic": func(c *v1alpha1.Canary, seen *Observed) {
			c.Status.Weight, seen.Split.CanaryWeight, seen.Target.Replicas = 0, 0, 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			decision := corner(v1alpha1.PhaseShifting, 1, 10, change).decided()
			require.Equal(t, v1alpha1.PhaseScaling, decision.Status.Phase)
			require.False(t, does(decision, func(e WriteSplit) bool { return e.CanaryWeight > 10 }))
			require.False(t, does(decision, whatever[ScaleSet]))
		})
	}
}

// An edit that takes steps away, or moves them while pods are made, is followed at once and begins nothing anew.
func TestStepsThatGo(t *testing.T) {
	fewer := func(c *v1alpha1.Canary, _ *Observed) { c.Spec.Steps = c.Spec.Steps[1:] }
	require.EqualValues(t, 1, corner(v1alpha1.PhaseShifting, 2, 50, fewer).decided().Status.Step)
	p := corner(v1alpha1.PhaseScaling, 2, 50, func(c *v1alpha1.Canary, _ *Observed) {
		c.Generation, c.Status.ObservedGeneration = 2, 1
		c.Spec.Steps = []v1alpha1.Step{testStep(20), testStep(30), testStep(40), testStep(100)}
	})
	p.align()
	require.Equal(t, v1alpha1.PhaseScaling, p.status.Phase)
	require.EqualValues(t, 2, p.status.Step)
	require.Empty(t, p.transition)
}

// The index after the last step is of none.
func TestIndexesOfSteps(t *testing.T) {
	p := corner(v1alpha1.PhaseHolding, 2, 100, func(c *v1alpha1.Canary, _ *Observed) {
		c.Spec.Steps[2].Approval = &v1alpha1.StepApproval{Count: 1}
		c.Status.StepStartedAt = stamp(time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC))
	})
	require.Equal(t, v1alpha1.Step{Weight: 100}, p.step(3))
	require.NotNil(t, p.approvalOf(2))
	require.Nil(t, p.approvalOf(3))
	require.Equal(t, 5*time.Second, p.holdLeft())
	p.status.Step = 3
	require.Zero(t, p.holdLeft())
}

func TestSizeOfTheCanary(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Set)
		scales bool
	}{
		"as it should be":                 {func(*Set) {}, false},
		"too small":                       {func(set *Set) { set.Replicas = 1 }, true},
		"too small, and the Deployment's": {func(set *Set) { set.Replicas, set.Owned = 1, true }, false},
		"too small, and going":            {func(set *Set) { set.Replicas, set.Deleting = 1, true }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := corner(v1alpha1.PhaseScaling, 1, 10, func(_ *v1alpha1.Canary, seen *Observed) { c.change(&seen.Sets[1]) })
			p.sizeCanary()
			require.Equal(t, c.scales, len(p.decision.Effects) > 0)
		})
	}
}

// Pods that are lost take weight with them only as far as those that are left do not carry it, and what
// the split says beside its weight stays.
func TestYielding(t *testing.T) {
	three, beta := intstr.FromInt32(3), header("x-team", "beta")
	p := corner(v1alpha1.PhaseHolding, 1, 50, func(c *v1alpha1.Canary, seen *Observed) {
		c.Spec.Steps[1].Replicas = &three
		c.Status.Canary.ReadyReplicas = 3
		seen.Sets[1].Replicas = 3
	})
	require.False(t, p.retreat(), "two of three carry 50 of 100")
	for weight, want := range map[int32][]v1alpha1.RequestMatch{50: beta, 40: nil} {
		p = corner(v1alpha1.PhaseHolding, 1, 50, func(_ *v1alpha1.Canary, seen *Observed) {
			seen.Sets[1].Ready = 1
			seen.Split.CanaryWeight, seen.Split.Routing.Matches = weight, beta
		})
		require.True(t, p.retreat())
		require.Equal(t, []Effect{WriteSplit{StableHash: "s", CanaryHash: "k", CanaryWeight: 25, TotalWeight: 100, Routing: Routing{Matches: want}}}, p.decision.Effects)
	}
}

// A split that somebody deleted while the canary's first pods are made is there again before they are ready.
func TestSplitIsRepairedBeforePodsAreReady(t *testing.T) {
	decision := corner(v1alpha1.PhaseScaling, 0, 0, func(_ *v1alpha1.Canary, seen *Observed) {
		seen.Sets[1].Ready, seen.Split = 0, nil
	}).decided()
	require.True(t, does(decision, func(e WriteSplit) bool { return e.CanaryWeight == 0 }))
}

// A repaired split gives the canary nothing that its pods do not carry, be it by what requests are.
func TestRepairOfASplit(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Observed)
		weight int32
	}{
		"enough pods":     {func(*Observed) {}, 50},
		"too few":         {func(seen *Observed) { seen.Sets[1].Ready = 1 }, 0},
		"the set is gone": {func(seen *Observed) { seen.Sets = seen.Sets[:1] }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := corner(v1alpha1.PhaseScaling, 2, 50, func(spec *v1alpha1.Canary, seen *Observed) {
				spec.Spec.Steps[1].Matches = header("x-team", "beta")
				c.change(seen)
			})
			p.repairSplit()
			require.Len(t, p.decision.Effects, 1)
			wrote := p.decision.Effects[0].(WriteSplit)
			require.Equal(t, c.weight, wrote.CanaryWeight)
			require.Equal(t, c.weight > 0, wrote.Routing.reaches())
		})
	}
}

// A weight is what it is a share of, too; none is none of anything.
func TestSplitIs(t *testing.T) {
	p := corner(v1alpha1.PhaseHolding, 1, 50, nil)
	require.True(t, p.splitIs(50))
	p.seen.Split.TotalWeight = 1000
	require.False(t, p.splitIs(50))
	p.seen.Split.CanaryWeight = 0
	require.True(t, p.splitIs(0))
}

func TestRoutingInForce(t *testing.T) {
	beta, gamma := header("x", "beta"), header("x", "gamma")
	for _, c := range []struct {
		step, weight int32
		want         []v1alpha1.RequestMatch
	}{
		{0, 0, nil}, {1, 0, nil}, {1, 10, beta}, {1, 50, gamma}, {1, 25, gamma}, {0, 5, beta},
	} {
		p := corner(v1alpha1.PhaseScaling, c.step, c.weight, func(canary *v1alpha1.Canary, _ *Observed) {
			canary.Spec.Steps[0].Matches, canary.Spec.Steps[1].Matches = beta, gamma
		})
		require.Equal(t, c.want, p.inForce().Matches, "weight %d on the way to step %d", c.weight, c.step)
	}
}

func TestMostWeight(t *testing.T) {
	for _, c := range []struct {
		surge    v1alpha1.Surge
		replicas int32
		want     int32
	}{{v1alpha1.SurgeFull, 4, 100}, {v1alpha1.SurgeFull, 0, 100}, {v1alpha1.SurgeDeployment, 4, 25}, {v1alpha1.SurgeDeployment, 0, 100}} {
		p := corner(v1alpha1.PhaseScaling, 0, 0, func(canary *v1alpha1.Canary, seen *Observed) {
			canary.Spec.Surge, seen.Target.Replicas = c.surge, c.replicas
		})
		require.Equal(t, c.want, p.mostWeight(), "%+v", c)
	}
}

func TestEntriesSayWhatTheirWeightIsOf(t *testing.T) {
	p := corner(v1alpha1.PhaseHolding, 1, 50, nil)
	require.Zero(t, p.entry("").TotalWeight)
	p.canary.Spec.TotalWeight = 1000
	require.EqualValues(t, 1000, p.entry("").TotalWeight)
}

// A run that had been promoted when the controller died is not promoted twice.
func TestRunThatHadBeenPromoted(t *testing.T) {
	decision := corner(v1alpha1.PhaseHolding, 1, 50, func(_ *v1alpha1.Canary, seen *Observed) {
		seen.Runs[0].Record.Outcome = v1alpha1.OutcomePromoted
	}).decided()
	require.Equal(t, v1alpha1.PhaseStable, decision.Status.Phase)
	require.Equal(t, AtOnce, decision.Next)
	require.Contains(t, decision.Events, Event{Reason: v1alpha1.ReasonPromoted, Message: "run app-1 had been promoted"})
}

// What counts for harmless without a look at the gate.
func TestHarmless(t *testing.T) {
	require.False(t, corner(v1alpha1.PhaseHolding, 1, 50, func(_ *v1alpha1.Canary, seen *Observed) { seen.Gate = nil }).harmless())
	for name, change := range map[string]func(*v1alpha1.Canary, *Observed){
		"a return":  func(_ *v1alpha1.Canary, seen *Observed) { seen.Runs[0].Spec.Kind = v1alpha1.RunReturn },
		"hurried":   func(c *v1alpha1.Canary, _ *Observed) { c.Annotations[v1alpha1.AnnotationPromote] = "app-1" },
		"unjudged":  func(c *v1alpha1.Canary, _ *Observed) { c.Spec.SkipAnalysis = true },
		"well told": func(_ *v1alpha1.Canary, seen *Observed) { seen.Gate = judged(analysis.VerdictWait) },
	} {
		p := corner(v1alpha1.PhaseHolding, 1, 50, change)
		if name != "well told" {
			p.seen.Gate = nil
		}
		require.True(t, p.harmless(), name)
	}
}

// A look that says nothing new leaves nothing for the next entry of the record.
func TestMeasurementsAreOfTheirLook(t *testing.T) {
	p := corner(v1alpha1.PhaseHolding, 1, 50, func(c *v1alpha1.Canary, _ *Observed) {
		c.Status.Verdict = &v1alpha1.VerdictStatus{Verdict: string(analysis.VerdictPass)}
		c.Status.StepStartedAt = stamp(time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC))
	})
	p.judge()
	require.Nil(t, p.measurement)
	require.Empty(t, p.record.Entries)
}

// While people are waited for, only who goes on without a verdict goes on.
func TestInconclusiveWhileApprovalIsAwaited(t *testing.T) {
	for _, do := range []v1alpha1.InconclusiveAction{v1alpha1.InconclusivePromote, v1alpha1.InconclusiveRollback, v1alpha1.InconclusiveHold} {
		p := corner(v1alpha1.PhaseAwaitingApproval, 1, 50, func(c *v1alpha1.Canary, _ *Observed) {
			c.Spec.OnInconclusive = do
			c.Status.PhaseStartedAt = stamp(time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC))
		})
		require.Equal(t, do == v1alpha1.InconclusivePromote, p.inconclusive(analysis.Judgement{Verdict: analysis.VerdictWait}), do)
	}
}

// Pods that nobody needs go when stable is whole and nothing is open on them, and sets that still have
// some are waited for.
func TestPodsThatNobodyNeeds(t *testing.T) {
	stray := Set{Name: "app-x", Hash: "x", Template: template("X")}
	for name, c := range map[string]struct {
		replicas, pods int32
		change         func(*Observed)
		cleared, goes  bool
	}{
		"no pods":             {0, 0, func(*Observed) {}, true, false},
		"they are going":      {0, 1, func(*Observed) {}, false, false},
		"not made yet":        {1, 0, func(*Observed) {}, false, true},
		"they are there":      {1, 1, func(*Observed) {}, false, true},
		"stable is not whole": {1, 1, func(seen *Observed) { seen.Sets[0].Ready = 3 }, false, false},
		"requests are open":   {1, 1, func(seen *Observed) { seen.Split.Open["x"] = 1 }, false, false},
		"the Deployment's":    {1, 1, func(seen *Observed) { seen.Sets[1].Owned = true }, true, false},
		"going":               {1, 1, func(seen *Observed) { seen.Sets[1].Deleting = true }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := corner(v1alpha1.PhaseHeld, 0, 0, func(_ *v1alpha1.Canary, seen *Observed) {
				set := stray
				set.Replicas, set.Pods = c.replicas, c.pods
				seen.Sets = []Set{seen.Sets[0], set}
				c.change(seen)
			})
			require.Equal(t, c.replicas+c.pods > 0, p.strays())
			require.Equal(t, c.cleared, p.cleared())
			require.Equal(t, c.goes, slices.Contains(p.decision.Effects, Effect(ScaleSet{Name: "app-x"})))
		})
	}
}

// The canary's pods are strays, stable's are not; its set is kept while a run is being set up.
func TestKeptSets(t *testing.T) {
	for _, phase := range []v1alpha1.Phase{v1alpha1.PhaseHeld, v1alpha1.PhaseRejected} {
		p := corner(phase, 0, 0, nil)
		require.True(t, p.kept(&p.seen.Sets[0]))
		require.Equal(t, phase == v1alpha1.PhaseHeld, p.kept(&p.seen.Sets[1]))
		require.False(t, p.kept(&Set{Name: "app-x"}))
		p.seen.Sets = p.seen.Sets[:1]
		require.False(t, p.strays())
	}
}

func TestStableIsKept(t *testing.T) {
	p := corner(v1alpha1.PhaseHolding, 1, 50, func(_ *v1alpha1.Canary, seen *Observed) { seen.Sets[0].Owned = false })
	p.keepHold()
	require.Equal(t, []Effect{GiveBackSet{Name: "app-s"}}, p.decision.Effects)
	for _, replicas := range []int32{0, 4} {
		p = corner(v1alpha1.PhaseHolding, 1, 50, func(_ *v1alpha1.Canary, seen *Observed) {
			seen.Sets, seen.Target.Replicas = seen.Sets[1:], replicas
		})
		p.keepHold()
		require.Equal(t, replicas > 0, len(p.decision.Effects) > 0, "%d replicas", replicas)
	}
}

// A plan changes nothing that it was given.
func TestPlanIsPure(t *testing.T) {
	p := corner(v1alpha1.PhaseStable, 0, 0, func(c *v1alpha1.Canary, seen *Observed) {
		c.DeletionTimestamp = &metav1.Time{Time: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}
		seen.Target.Template, seen.Sets = template("A"), seen.Sets[:1]
		seen.Sets[0].Owned = false
	})
	given := slices.Clone(p.seen.Sets)
	decision := Plan(p.canary, p.seen, p.now)
	require.Equal(t, given, p.seen.Sets)
	gives := 0
	for _, effect := range decision.Effects {
		if e, ok := effect.(GiveBackSet); ok && e.Name == "app-s" {
			gives++
		}
	}
	require.Equal(t, 1, gives, "stable is given back, and once")
}

// A Deployment that a person paused stays paused when the Canary goes.
func TestForgetWhatAPersonPaused(t *testing.T) {
	for _, c := range []struct {
		paused bool
		hold   string
		stays  bool
	}{{true, "", true}, {false, "", false}, {false, "app-1", false}, {true, "app-1", false}} {
		p := corner(v1alpha1.PhaseStable, 0, 0, func(_ *v1alpha1.Canary, seen *Observed) {
			seen.Target.Paused, seen.Target.Hold = c.paused, c.hold
		})
		p.forget()
		require.Contains(t, p.decision.Effects, Effect(ForgetTarget{StayPaused: c.stays}), "%+v", c)
	}
}

// Records are pruned at rest only.
func TestPruningWaitsForRest(t *testing.T) {
	for _, ready := range []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionUnknown} {
		for _, phase := range []v1alpha1.Phase{v1alpha1.PhaseStable, v1alpha1.PhaseRejected} {
			p := corner(phase, 0, 0, func(c *v1alpha1.Canary, seen *Observed) {
				c.Spec.History = &v1alpha1.History{Limit: 1}
				old := v1alpha1.CanaryRun{ObjectMeta: metav1.ObjectMeta{Name: "app-0"}}
				old.Record.Outcome, old.Record.EndedAt = v1alpha1.OutcomeCancelled, stamp(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
				seen.Runs = append(seen.Runs, old)
			})
			p.decision.Standing.Ready = ready
			require.Equal(t, phase == v1alpha1.PhaseStable && ready == metav1.ConditionTrue, does(p.conclude(), whatever[DeleteRun]), "%s %s", phase, ready)
		}
	}
}

// After the handover the old pods drain, whoever owns their set, and a person's pause is a person's.
func TestFinish(t *testing.T) {
	handed := func(change func(*Observed)) *planner {
		return corner(v1alpha1.PhasePromoting, 2, 100, func(_ *v1alpha1.Canary, seen *Observed) {
			seen.Target.Paused, seen.Target.Hold = false, ""
			seen.Sets[0].Owned, seen.Sets[1].Owned = false, true
			change(seen)
		})
	}
	message := func(p *planner) string {
		p.finish(&p.seen.Sets[1])
		return p.decision.Standing.Message
	}
	old := func(replicas, pods int32, owned bool) func(*Observed) {
		return func(seen *Observed) {
			seen.Sets[0].Replicas, seen.Sets[0].Pods, seen.Sets[0].Owned = replicas, pods, owned
		}
	}
	require.Equal(t, "the old pods are drained and go", message(handed(old(4, 4, false))))
	require.Equal(t, "the old pods are drained and go", message(handed(old(4, 0, false))))
	require.Equal(t, "waiting for 4 old pods to go", message(handed(old(0, 4, false))))
	require.Equal(t, "promoted: the analysed pods are the Deployment's", message(handed(old(0, 0, false))))
	require.Contains(t, message(handed(old(4, 0, true))), "rolling update goes on")
	require.Contains(t, message(handed(old(0, 4, true))), "rolling update goes on")
	require.Equal(t, "promoted: the analysed pods are the Deployment's", message(handed(old(0, 0, true))))
	for _, c := range []struct {
		paused bool
		hold   string
	}{{true, "app-1"}, {true, ""}, {false, "app-1"}} {
		p := handed(func(seen *Observed) { seen.Target.Paused, seen.Target.Hold = c.paused, c.hold })
		p.finish(&p.seen.Sets[1])
		require.Equal(t, c.paused && c.hold != "", slices.Contains(p.decision.Effects, Effect(Unpause{})), "%+v", c)
	}
	p := handed(func(seen *Observed) { seen.Split.CanaryWeight = 99 })
	p.finish(&p.seen.Sets[1])
	require.Equal(t, stamp(p.now), p.status.PhaseStartedAt, "the drain begins with the last request")
}

// Somebody may have deleted the old set.
func TestFinishWithoutTheOldSet(t *testing.T) {
	p := corner(v1alpha1.PhasePromoting, 2, 100, func(_ *v1alpha1.Canary, seen *Observed) {
		seen.Target.Paused, seen.Target.Hold = false, ""
		seen.Sets = seen.Sets[1:]
	})
	p.finish(&p.seen.Sets[0])
	require.Equal(t, v1alpha1.PhaseStable, p.status.Phase)
}

// Nothing is written for a split that is not there, and nothing follows pods that are not.
func TestFollow(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Observed)
		writes bool
	}{
		"pods of both":         {func(*Observed) {}, true},
		"no split":             {func(seen *Observed) { seen.Split = nil }, false},
		"no pod of either":     {func(seen *Observed) { seen.Sets[0].Ready, seen.Sets[1].Ready = 0, 0 }, false},
		"as the split says it": {func(seen *Observed) { seen.Split.CanaryWeight = 50 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := corner(v1alpha1.PhasePromoting, 2, 100, func(_ *v1alpha1.Canary, seen *Observed) { c.change(seen) })
			p.follow(&p.seen.Sets[1], &p.seen.Sets[0])
			require.Equal(t, c.writes, len(p.decision.Effects) > 0)
		})
	}
}

// Sets with pods, also those on their way out, go back to a Deployment that is rolling out.
func TestHandAll(t *testing.T) {
	p := corner(v1alpha1.PhaseStable, 0, 0, func(_ *v1alpha1.Canary, seen *Observed) {
		seen.Split = nil
		seen.Sets = []Set{{Name: "a", Replicas: 1}, {Name: "b", Pods: 1}, {Name: "c"}, {Name: "d", Revision: 2}, {Name: "e", Owned: true}}
		for i := range seen.Sets {
			seen.Sets[i].Template = template(seen.Sets[i].Name)
		}
	})
	p.handAll()
	require.Equal(t, []Effect{GiveBackSet{Name: "a"}, GiveBackSet{Name: "b"}, DeleteSet{Name: "c"}, GiveBackSet{Name: "d"}}, p.decision.Effects)
}

// Only a revision of the split is reached by it.
func TestReached(t *testing.T) {
	p := corner(v1alpha1.PhaseHolding, 1, 50, nil)
	require.Equal(t, []bool{true, true, false}, []bool{p.reached("s"), p.reached("k"), p.reached("x")})
}

// Who is asked before a weight rises: those of the run's beginning at its beginning only, and nobody when
// nothing rises.
func TestWhoIsAskedBeforeAWeightRises(t *testing.T) {
	both := []v1alpha1.WebhookType{v1alpha1.WebhookPreRollout}
	confirm := []v1alpha1.WebhookType{v1alpha1.WebhookConfirmTrafficIncrease}
	for _, c := range []struct {
		step, weight int32
		matches      bool
		want         []v1alpha1.WebhookType
	}{
		{0, 0, false, both}, {0, 5, false, confirm}, {1, 0, false, confirm}, {1, 10, false, confirm},
		{1, 50, false, nil}, {1, 50, true, nil}, {2, 50, true, confirm},
	} {
		p := corner(v1alpha1.PhaseScaling, c.step, c.weight, func(canary *v1alpha1.Canary, _ *Observed) {
			for _, kind := range []v1alpha1.WebhookType{v1alpha1.WebhookPreRollout, v1alpha1.WebhookConfirmTrafficIncrease} {
				canary.Spec.Webhooks = append(canary.Spec.Webhooks, v1alpha1.Webhook{Name: "w", Type: kind, URL: "https://hooks.example/w"})
			}
			if c.matches {
				canary.Spec.Steps[c.step].Matches = header("x", "y")
			}
		})
		require.Equal(t, c.want == nil, p.mayShift(), "%+v", c)
		var asked []v1alpha1.WebhookType
		for _, ask := range p.asks {
			asked = append(asked, ask.Webhook.Type)
		}
		require.Equal(t, c.want, asked, "%+v", c)
	}
}

// Answers are noted once, with the transition that rests on them; a webhook that may take the traffic back
// is looked after with each look, and messages tell where the release came from.
func TestAnswersOfWebhooks(t *testing.T) {
	webhook := v1alpha1.Webhook{Name: "w", Type: v1alpha1.WebhookRollout, URL: "https://hooks.example/w"}
	with := func(kind v1alpha1.WebhookType, answer hook.Answer) *planner {
		webhook.Type = kind
		p := corner(v1alpha1.PhaseHolding, 1, 50, func(c *v1alpha1.Canary, seen *Observed) {
			c.Spec.Webhooks = []v1alpha1.Webhook{webhook}
			seen.Runs[0].Spec.Source = &v1alpha1.RunSource{Revision: "main@sha1:1"}
		})
		p.seen.Hooks = map[string]hook.Answer{p.hookKey(&webhook, p.stepMoment()): answer, p.hookKey(&webhook, "run"): answer}
		return p
	}
	p := with(v1alpha1.WebhookRollout, hook.Answer{Attempt: 1, Code: 200})
	require.True(t, p.tested())
	require.Empty(t, p.answers)
	p.answers = []v1alpha1.RunHook{{Name: "w"}}
	p.noteAnswers()
	p.noteAnswers()
	require.Len(t, p.record.Entries, 1)
	require.Equal(t, "main@sha1:1", p.hookMessage(&webhook).Source.Revision)

	p = with(v1alpha1.WebhookRollback, hook.Answer{Attempt: 1, Code: 403, At: p.now})
	require.Empty(t, p.recalled())
	require.Equal(t, NextInterval, p.decision.Next)

	for attempt, want := range map[int32]string{1: "waiting for an answer of webhook w (rollout)", 2: "waiting for webhook w (rollout), attempt 2: asked again"} {
		webhook.Type = v1alpha1.WebhookRollout
		_, waits := p.weigh(&webhook, hook.Answer{Attempt: attempt, Pending: true}, true)
		require.Equal(t, want, waits.Message)
	}
}

// An entry is of a run when all of its names are, and of none that is over.
func TestEntryOfARun(t *testing.T) {
	entry := v1alpha1.RunningRun{Namespace: "shop", Canary: "web", Run: "web-1"}
	for name, c := range map[string]struct {
		change func(*v1alpha1.Canary)
		want   bool
	}{
		"it is":             {func(*v1alpha1.Canary) {}, true},
		"another namespace": {func(c *v1alpha1.Canary) { c.Namespace = "bank" }, false},
		"another name":      {func(c *v1alpha1.Canary) { c.Name = "cart" }, false},
		"another run":       {func(c *v1alpha1.Canary) { c.Status.Run = "web-2" }, false},
		"at rest":           {func(c *v1alpha1.Canary) { c.Status.Phase = v1alpha1.PhaseStable }, false},
		"rejected":          {func(c *v1alpha1.Canary) { c.Status.Phase = v1alpha1.PhaseRejected }, false},
	} {
		web := inQueue("shop", "web", time.Time{}, 0)
		c.change(&web)
		require.Equal(t, c.want, entryIsOf(entry, &web), name)
	}
	// A neighbour's slot of a run that is over is free, though its name or its namespace is one's own.
	web, cart, there := inQueue("shop", "web", time.Time{}, 0), inQueue("shop", "cart", time.Time{}, 0), inQueue("bank", "web", time.Time{}, 0)
	policy := budget(5, 0)
	policy.Status.Running = []v1alpha1.RunningRun{{Namespace: "shop", Canary: "cart", Run: "cart-0"}, {Namespace: "bank", Canary: "web", Run: "web-0"}}
	require.Zero(t, slotOf(policy, []v1alpha1.Canary{web, cart, there}, &web).Used)
}

// Who hurries a promotion has those approvals counted that he passes, and not what is given of the one
// that he stops at.
func TestHurryCountsWhatItPasses(t *testing.T) {
	w := awaiting(t, v1alpha1.StepApproval{Count: 1})
	w.canary.Spec.Steps[1].Approval = &v1alpha1.StepApproval{Count: 2}
	w.reconcile(false)
	for step, name := range []string{"passed", "reached"} {
		w.approve(name, "alice", func(a *v1alpha1.Approval) { a.Spec.Step = int32(step) })
	}
	w.canary.Annotations = map[string]string{v1alpha1.AnnotationPromote: w.canary.Status.Run}
	w.reconcile(false)
	require.EqualValues(t, 1, w.canary.Status.Step)
	var counted []string
	for _, entry := range w.seen.run(w.canary.Status.Run).Record.Entries {
		if entry.Approval != nil {
			counted = append(counted, entry.Approval.Name)
		}
	}
	require.Equal(t, []string{"passed"}, counted)
}

// Of two sets that serve as well, the order in which they were listed decides, not chance.
func TestServesBetterIsAnOrder(t *testing.T) {
	same := Set{Replicas: 2, Ready: 2, Revision: 3}
	require.False(t, servesBetter(&same, &same))
	empty := Set{Revision: 3}
	require.False(t, servesBetter(&empty, &empty))
}
