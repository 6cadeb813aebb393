// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Whatever happens, and wherever the controller dies, no decision breaks an invariant of the run; and
// when the world calms down, the Canary comes to rest.
func TestPlanKeepsInvariants(t *testing.T) {
	sequences := uint64(500)
	if testing.Short() {
		sequences = 50
	}
	ends := map[v1alpha1.Phase]int{}
	outcomes := map[v1alpha1.Outcome]int{}
	for seed := range sequences {
		w := newWorld(seed)
		for range 150 {
			w.disturb()
			w.reconcile(w.random.IntN(6) == 0)
			require.Empty(t, w.violation, "seed %d", seed)
		}
		require.True(t, w.rests(), "seed %d does not come to rest: phase %s, target %+v, sets %+v, split %+v",
			seed, w.canary.Status.Phase, w.seen.Target, w.seen.Sets, w.seen.Split)
		require.Empty(t, w.violation, "seed %d", seed)
		ends[w.canary.Status.Phase]++
		for _, run := range w.seen.Runs {
			outcomes[run.Record.Outcome]++
		}
	}
	t.Logf("ends %v, outcomes of runs %v", ends, outcomes)
	for _, outcome := range []v1alpha1.Outcome{v1alpha1.OutcomePromoted, v1alpha1.OutcomeRolledBack, v1alpha1.OutcomeCancelled} {
		require.NotZero(t, outcomes[outcome], "the sequences reach %s", outcome)
	}
}

// rests calms the world down and says whether, in some minutes, nothing moves any more.
func (w *world) rests() bool {
	w.seen.Gate = &GateLook{Judgement: analysis.Judgement{Verdict: analysis.VerdictPass, Reason: "good"}}
	delete(w.canary.Annotations, v1alpha1.AnnotationPause)
	w.seen.Dependencies = nil
	for still, round := 0, 0; round < 400; round++ {
		w.now = w.now.Add(time.Second)
		w.controller()
		w.kubelet(true)
		if split := w.seen.Split; split != nil {
			split.Acknowledged = true
			split.Open = map[string]int64{}
		}
		w.reconcile(false)
		if still++; !w.still() {
			still = 0
		}
		if still == 5 {
			return true
		}
	}
	return false
}

// still: the next look would find nothing to do.
func (w *world) still() bool {
	if w.gone {
		return w.seen.Target.Hold == "" && w.seen.Target.Canary == "" && w.seen.Split == nil
	}
	decision := Plan(&w.canary, w.observe(), w.now)
	waiting := decision.Standing.Reason == v1alpha1.ReasonScaledToZero && w.seen.Target.Replicas == 0 ||
		decision.Standing.Reason == v1alpha1.ReasonRestartHeld && w.canary.Spec.Restart == v1alpha1.RestartAsk
	return len(decision.Effects) == 0 && (!decision.Standing.Reconciling || waiting)
}

// check looks at a decision against what was seen when it was made.
func (w *world) check(seen Observed, decision Decision) {
	for _, effect := range decision.Effects {
		switch e := effect.(type) {
		case WriteSplit:
			w.checkWeight(seen, decision, e)
		case GiveBackSet:
			w.checkHandover(seen, e)
		case Unpause:
			w.checkUnpause(seen)
		case ScaleSet:
			w.checkScale(seen, e)
		case RecordRun:
			w.checkOutcome(seen, decision, e)
		}
	}
	if decision.Standing.Reason == "" {
		w.fail("phase %s decided nothing", w.canary.Status.Phase)
	}
}

// No canary weight without ready capacity for it, nor without stable being able to take it back;
// weights rise along the steps or go to 0.
func (w *world) checkWeight(seen Observed, decision Decision, e WriteSplit) {
	if e.CanaryWeight == 0 {
		w.checkRouting(seen, decision, e)
		return
	}
	canary, stable := seen.set(decision.Status.Canary.ReplicaSet), seen.set(decision.Status.Stable.ReplicaSet)
	total := totalOf(w.canary.Spec.TotalWeight)
	need := needed(e.CanaryWeight, total, seen.Target.Replicas)
	switch {
	case w.canary.Status.Phase == v1alpha1.PhasePromoting && canary != nil && canary.Owned && canary.Ready > 0:
	case canary == nil || canary.Ready < need || canary.Ready == 0:
		w.fail("weight %d is written with too few ready canary pods: %+v", e.CanaryWeight, canary)
	case stable == nil && e.CanaryWeight > w.canary.Status.Weight:
		w.fail("weight %d is written without stable", e.CanaryWeight)
	case e.TotalWeight != total:
		w.fail("weight %d is written out of %d, not of %d", e.CanaryWeight, e.TotalWeight, total)
	case !seen.Target.Paused || !sameRelease(seen.Target.Template, canary.Template):
		w.fail("weight %d is written for a template that is not asked for", e.CanaryWeight)
	}
	if w.canary.Status.Phase == v1alpha1.PhasePromoting {
		return // What the rolling update has made ready.
	}
	run := seen.run(decision.Status.Run)
	rises := percent(e.CanaryWeight, e.TotalWeight) > percent(w.canary.Status.Weight, w.canary.Status.TotalWeight)
	again := e.CanaryWeight*1000 <= w.had*e.TotalWeight
	stands := w.canary.Annotations[v1alpha1.AnnotationPause] == decision.Status.Run || len(seen.Dependencies) > 0 && run.Spec.Kind != v1alpha1.RunReturn
	if stands && rises && !again {
		w.fail("weight %d is begun while the run must stand still", e.CanaryWeight)
	}
	steps := w.canary.Spec.Steps
	if i := int(decision.Status.Step); i >= 0 && i < len(steps) && e.CanaryWeight <= steps[i].Weight {
		return
	}
	if run.Spec.Kind != v1alpha1.RunReturn && rises {
		w.fail("weight %d is more than its step's", e.CanaryWeight)
	}
}

// Without weight a canary is reached only with pods, in a phase in which it may be.
func (w *world) checkRouting(seen Observed, decision Decision, e WriteSplit) {
	if !e.Routing.reaches() {
		return
	}
	canary := seen.set(decision.Status.Canary.ReplicaSet)
	phase := w.canary.Status.Phase
	switch {
	case canary == nil || canary.Ready == 0:
		w.fail("requests are sent to a canary without pods")
	case phase != v1alpha1.PhaseScaling && phase != v1alpha1.PhaseShifting:
		w.fail("requests are sent to a canary in phase %s", phase)
	}
}

// What is handed over is what was analysed, whole or as large as it may get, with all the traffic that
// it may have.
func (w *world) checkHandover(seen Observed, e GiveBackSet) {
	if e.Handover == nil {
		return
	}
	set := seen.set(e.Name)
	switch {
	case w.canary.Status.Phase != v1alpha1.PhasePromoting:
		w.fail("handover in phase %s", w.canary.Status.Phase)
	case !sameRelease(set.Template, seen.Target.Template):
		w.fail("handover of a template that is not asked for")
	case set.Ready < w.most(seen):
		w.fail("handover of %d ready pods of %d", set.Ready, w.most(seen))
	case seen.Split == nil || seen.Split.CanaryHash != set.Hash ||
		seen.Split.CanaryWeight != carried(w.most(seen), totalOf(seen.Split.TotalWeight), seen.Target.Replicas):
		w.fail("handover without all the traffic: %+v", seen.Split)
	}
}

// most is how many pods the canary may have.
func (w *world) most(seen Observed) int32 {
	if w.canary.Spec.Surge == v1alpha1.SurgeDeployment {
		return min(seen.Target.MaxSurge, seen.Target.Replicas)
	}
	return seen.Target.Replicas
}

// The hold is lifted only for a template that an owned set has, or when nothing could be compared.
func (w *world) checkUnpause(seen Observed) {
	for _, set := range seen.Sets {
		if (set.Owned || set.Name == w.canary.Status.Stable.ReplicaSet) && sameRelease(set.Template, seen.Target.Template) {
			return
		}
	}
	for _, set := range seen.Sets {
		if set.Owned && set.Ready > 0 {
			w.fail("unpaused at a template that no owned set has, while %s serves", set.Name)
			return
		}
	}
}

// Traffic goes before pods do.
func (w *world) checkScale(seen Observed, e ScaleSet) {
	set := seen.set(e.Name)
	if e.Replicas >= set.Replicas || e.Replicas > 0 || seen.Split == nil {
		return
	}
	if weight := weightIn(seen.Split, set.Hash); weight > 0 {
		w.fail("%s loses its pods while it has weight %d", e.Name, weight)
	}
}

func weightIn(split *Split, hash string) int32 {
	switch hash {
	case split.CanaryHash:
		return split.CanaryWeight
	case split.StableHash:
		return totalOf(split.TotalWeight) - split.CanaryWeight
	}
	return 0
}

// Only a failed gate, pods that never became ready, or people reject a template.
func (w *world) checkOutcome(seen Observed, decision Decision, e RecordRun) {
	run := seen.run(e.Run)
	if e.Outcome != v1alpha1.OutcomeRolledBack || run == nil || run.Record.Outcome != "" {
		return
	}
	failed := seen.Gate != nil && seen.Gate.Unavailable == "" && seen.Gate.Judgement.Verdict == analysis.VerdictFail
	late := decision.Status.PhaseStartedAt != nil && w.canary.Status.PhaseStartedAt != nil &&
		w.now.Sub(w.canary.Status.PhaseStartedAt.Time) >= seen.Target.ProgressDeadline
	aborted := w.canary.Annotations[v1alpha1.AnnotationAbort] == e.Run
	if !failed && !late && !aborted {
		w.fail("run %s is rejected without a reason in phase %s", e.Run, w.canary.Status.Phase)
	}
}
