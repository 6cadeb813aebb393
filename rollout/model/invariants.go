// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
)

// Invariant is something that must hold of every decision.
type Invariant struct {
	// Name is a sentence that is true when it holds.
	Name string
	// broken says how a decision breaks it; empty when it does not.
	broken func(*step) string
}

// Invariants are those of the run. That a calm cluster comes to rest with the right revision is
// checked beside them.
func Invariants() []Invariant {
	return []Invariant{
		{"every decision says what it stands for", saysSomething},
		{"weight is written only with ready canary pods for it", canaryHasCapacity},
		{"weight rises only while stable could take everything back", stableHasCapacity},
		{"weight is written only for the template that is asked for", weightIsAskedFor},
		{"weight rises only after the gates of the steps below have passed", weightIsEarned},
		{"a step begins when the proxies have acknowledged its weight", stepIsAcknowledged},
		{"a step is left only when its gate passes and its hold is over", stepIsPassed},
		{"a step that asks for people's word is left only with it", approved},
		{"a run goes on only when its webhooks agree", webhooksAgree},
		{"a restart that people are to be asked about begins only with their word", restartIsAsked},
		{"a run begins only with a slot of its budgets", admitted},
		{"in an emergency no run goes on", evacuated},
		{"what is handed over is whole, has all traffic and was analysed", handoverIsAnalysed},
		{"the hold is lifted only for what was promoted, was stable, or with nothing to protect", unpauseIsSafe},
		{"a rejected template is not let go with its Canary", rejectedStaysHeld},
		{"a template is rejected only by its gate, by its own pods, by webhooks or by people", rejectionHasReason},
		{"pods go only after traffic and open work, or the drain deadline", trafficGoesFirst},
		{"the Deployment never shrinks what serves: stable is not released but for the handover", stableStays},
		{"what ends a run is acted on before anything else", abortComesFirst},
		{"every wait has an end or a person to name", waitsEnd},
		{"a failed canary loses its weight in the same breath", failureMovesTraffic},
	}
}

func (s *step) check() *failure {
	for _, invariant := range Invariants() {
		if why := invariant.broken(s); why != "" {
			return &failure{invariant: invariant.Name, why: why, step: s}
		}
	}
	return nil
}

func (s *step) set(name string) *rollout.Set {
	for i := range s.seen.Sets {
		if s.seen.Sets[i].Name == name {
			return &s.seen.Sets[i]
		}
	}
	return nil
}

func (s *step) slot(name string) *set {
	for i := range s.state.Sets {
		if s.state.Sets[i].Exists && s.state.Sets[i].Name.String() == name {
			return &s.state.Sets[i]
		}
	}
	return nil
}

func (s *step) run() *run {
	if i := s.state.Canary.Run; i != noRun && i != goneRun {
		return &s.state.Runs[i-1]
	}
	return nil
}

// handedOver: the canary is the Deployment's own already; its traffic is the workload's.
func (s *step) handedOver() bool {
	canary := s.state.find(s.state.Canary.Canary)
	return s.canary.Status.Phase == v1alpha1.PhasePromoting && canary >= 0 && s.state.Sets[canary].Owned
}

// effects visits the effects of one type until one is found broken.
func effects[T rollout.Effect](s *step, broken func(T) string) string {
	for _, effect := range s.decision.Effects {
		if e, ok := effect.(T); ok {
			if why := broken(e); why != "" {
				return why
			}
		}
	}
	return ""
}

func saysSomething(s *step) string {
	if s.decision.Standing.Reason == "" || s.decision.Standing.Message == "" {
		return fmt.Sprintf("phase %s decided nothing", s.canary.Status.Phase)
	}
	return ""
}

func canaryHasCapacity(s *step) string {
	return effects(s, func(e rollout.WriteSplit) string {
		if e.CanaryWeight == 0 || s.handedOver() {
			return ""
		}
		canary, replicas := s.set(s.decision.Status.Canary.ReplicaSet), s.seen.Target.Replicas
		need := max(1, (e.CanaryWeight*replicas+99)/100)
		if canary == nil || canary.Deleting || canary.Hash != e.CanaryHash || canary.Ready < need {
			return fmt.Sprintf("weight %d needs %d ready pods", e.CanaryWeight, need)
		}
		return ""
	})
}

func stableHasCapacity(s *step) string {
	return effects(s, func(e rollout.WriteSplit) string {
		if e.CanaryWeight == 0 || s.handedOver() || s.seen.Split != nil && s.seen.Split.CanaryWeight >= e.CanaryWeight {
			return ""
		}
		if e.CanaryWeight <= s.canary.Status.Weight {
			return "" // somebody took away a weight that was in force; it is put back
		}
		stable := s.set(s.decision.Status.Stable.ReplicaSet)
		if stable == nil || stable.Hash != e.StableHash || stable.Ready < s.seen.Target.Replicas {
			return fmt.Sprintf("weight rises to %d while stable could not take it back", e.CanaryWeight)
		}
		return ""
	})
}

func weightIsAskedFor(s *step) string {
	return effects(s, func(e rollout.WriteSplit) string {
		if e.CanaryWeight == 0 || s.handedOver() {
			return ""
		}
		canary := s.slot(s.decision.Status.Canary.ReplicaSet)
		switch d := &s.state.Deployment; {
		case canary == nil || !s.state.same(canary.Template, d.Template):
			return fmt.Sprintf("weight %d for a template that is not asked for", e.CanaryWeight)
		case !d.Paused:
			return fmt.Sprintf("weight %d while the Deployment is not held", e.CanaryWeight)
		case s.state.Canary.Deleting:
			return fmt.Sprintf("weight %d while the Canary is being deleted", e.CanaryWeight)
		}
		return ""
	})
}

func weightIsEarned(s *step) string {
	return effects(s, func(e rollout.WriteSplit) string {
		run := s.run()
		if e.CanaryWeight == 0 || s.handedOver() || run != nil && run.Return || s.state.Canary.Promoted || int(e.CanaryWeight) <= int(s.state.Passed) {
			return ""
		}
		for _, candidate := range s.canary.Spec.Steps {
			if candidate.Weight > int32(s.state.Passed) {
				if candidate.Weight >= e.CanaryWeight || e.CanaryWeight == s.canary.Status.Weight {
					return ""
				}
				break
			}
		}
		return fmt.Sprintf("weight %d after a gate was passed at %d", e.CanaryWeight, s.state.Passed)
	})
}

func entered(s *step, phase v1alpha1.Phase) bool {
	return s.decision.Status.Phase == phase && s.canary.Status.Phase != phase
}

func stepIsAcknowledged(s *step) string {
	if !entered(s, v1alpha1.PhaseHolding) {
		return ""
	}
	split := s.seen.Split
	if split == nil || !split.Acknowledged || split.CanaryWeight != s.decision.Status.Weight ||
		split.CanaryHash != s.decision.Status.Canary.PodTemplateHash {
		return fmt.Sprintf("the step's clock starts with %+v", split)
	}
	return ""
}

// judges: the gate of a step whose weight is in force is looked at in this phase.
func judges(phase v1alpha1.Phase) bool {
	return phase == v1alpha1.PhaseHolding || phase == v1alpha1.PhaseAwaitingApproval
}

// stepIsLeft: for the next one, or for the handover.
func (s *step) stepIsLeft() bool {
	// Who loses the traffic while it is below all steps begins with the first of them.
	lost := s.canary.Status.Step < 0 && s.decision.Status.Weight == 0
	return judges(s.canary.Status.Phase) && (entered(s, v1alpha1.PhasePromoting) ||
		entered(s, v1alpha1.PhaseScaling) && !lost && s.decision.Status.Step > s.canary.Status.Step)
}

func stepIsPassed(s *step) string {
	if !s.stepIsLeft() {
		return ""
	}
	if run := s.run(); run != nil && run.Return || s.state.Canary.Promoted {
		return ""
	}
	switch {
	case s.look.unavailable || s.look.verdict != analysis.VerdictPass:
		return fmt.Sprintf("the step is left with %s", s.look)
	case s.state.Canary.StepAge != drainOver && s.state.Canary.Step >= 0:
		return "the step is left before its hold is over"
	}
	return ""
}

func restartIsAsked(s *step) string {
	run, c := s.run(), &s.state.Canary
	if run == nil || run.Return || restartNames()[c.Restart] != v1alpha1.RestartAsk || c.Promoted ||
		s.canary.Status.Phase != v1alpha1.PhaseHeld || !entered(s, v1alpha1.PhaseScaling) {
		return ""
	}
	if run.StableRun.release() == s.state.Deployment.Template.release() {
		return "a restart begins and nobody said so"
	}
	return ""
}

func handoverIsAnalysed(s *step) string { //nolint:gocyclo // one invariant is read in one piece
	return effects(s, func(e rollout.GiveBackSet) string {
		if e.Handover == nil {
			return ""
		}
		given, d, run := s.slot(e.Name), &s.state.Deployment, s.run()
		switch {
		case s.canary.Status.Phase != v1alpha1.PhasePromoting || given == nil || given.Name != s.state.Canary.Canary:
			return fmt.Sprintf("handover of %s in phase %s", e.Name, s.canary.Status.Phase)
		case !s.state.same(given.Template, d.Template):
			return "handover of a template that is not asked for"
		case given.Ready < d.Replicas || given.Replicas != d.Replicas:
			return fmt.Sprintf("handover of %d ready pods of %d", given.Ready, d.Replicas)
		case !s.state.Split.Exists || s.state.Split.Weight != 100 || s.state.Split.Canary != given.Name:
			return "handover without all the traffic"
		case run == nil || run.Outcome != underWay:
			return "handover in a run that is no longer under way"
		case !run.Return && !s.state.Canary.Promoted && s.state.Passed != 100:
			return fmt.Sprintf("handover after a gate was passed at %d", s.state.Passed)
		case !d.Paused:
			return "handover while the Deployment is not held"
		}
		return ""
	})
}

func unpauseIsSafe(s *step) string {
	return effects(s, func(rollout.Unpause) string {
		d, c := &s.state.Deployment, &s.state.Canary
		serving := false
		for _, one := range s.state.Sets {
			if !one.Exists || !one.Owned && one.Name != c.Stable {
				continue
			}
			if s.state.same(one.Template, d.Template) {
				return ""
			}
			serving = serving || one.Owned && one.Ready > 0 && one.Replicas > 0
		}
		if serving {
			return "the Deployment is unpaused at a template that nothing of its own runs"
		}
		return ""
	})
}

func rejectedStaysHeld(s *step) string {
	return effects(s, func(e rollout.ForgetTarget) string {
		d, run := &s.state.Deployment, s.run()
		if e.StayPaused || !d.Paused || s.canary.Status.Phase != v1alpha1.PhaseRejected || run == nil {
			return ""
		}
		if s.state.same(run.CandidateRun, d.Template) && run.Outcome == rolledBack {
			return "the Deployment is unpaused at the rejected template"
		}
		return ""
	})
}

func rejectionHasReason(s *step) string {
	return effects(s, func(e rollout.RecordRun) string {
		run := s.run()
		if e.Outcome != v1alpha1.OutcomeRolledBack || run == nil || run.Outcome != underWay {
			return ""
		}
		switch {
		case s.state.Canary.Aborted, s.hooksReject():
			return ""
		case judges(s.canary.Status.Phase) && !s.look.unavailable && s.look.verdict == analysis.VerdictFail:
			return ""
		case s.state.Canary.PhaseAge == progressOver && s.state.Canary.Short && !s.look.starved:
			return ""
		}
		return fmt.Sprintf("phase %s rejects with gate %s", s.canary.Status.Phase, s.look)
	})
}

func trafficGoesFirst(s *step) string { //nolint:gocyclo // one invariant is read in one piece
	waited := s.state.Canary.PhaseAge != young && s.state.Canary.PhaseAge != never
	judge := func(name string) string {
		one, split := s.slot(name), &s.state.Split
		switch {
		case one == nil || one.Ready == 0 || s.state.Deployment.Replicas == 0:
			return "" // who scales a workload to zero wants no pods
		case !split.Exists && s.canary.Status.Phase == v1alpha1.PhaseRejected:
			return "" // nobody asked for these pods
		case !split.Exists && s.canary.Status.Phase != v1alpha1.PhaseStable:
			return fmt.Sprintf("%s loses its pods while no split keeps traffic off them", name)
		case !split.Exists || split.Canary != one.Name && split.Stable != one.Name:
			return ""
		case split.Canary == one.Name && split.Weight > 0 || split.Stable == one.Name && split.Weight < 100:
			return fmt.Sprintf("%s loses its pods while it has weight", name)
		case !waited && (!split.Acknowledged || split.Open):
			return fmt.Sprintf("%s loses its pods while work may be open on it", name)
		}
		return ""
	}
	why := effects(s, func(e rollout.ScaleSet) string {
		if e.Replicas > 0 {
			return ""
		}
		return judge(e.Name)
	})
	if why == "" {
		why = effects(s, func(e rollout.DeleteSet) string { return judge(e.Name) })
	}
	return why
}

func stableStays(s *step) string {
	handover := false
	for _, effect := range s.decision.Effects {
		e, ok := effect.(rollout.GiveBackSet)
		handover = handover || ok && e.Handover != nil
	}
	return effects(s, func(e rollout.ReleaseSet) string {
		if one := s.slot(e.Name); !handover && one != nil && one.Name == s.state.Canary.Stable {
			return fmt.Sprintf("stable %s is released", e.Name)
		}
		return ""
	})
}

// abortComesFirst: a run whose end is decided never goes on, nor one whose template is not asked for.
func abortComesFirst(s *step) string {
	run, d, c := s.run(), &s.state.Deployment, &s.state.Canary
	if !d.Exists || c.Suspended && !c.Deleting && !c.Aborted || run == nil {
		return ""
	}
	switch s.canary.Status.Phase {
	case v1alpha1.PhaseHeld, v1alpha1.PhaseScaling, v1alpha1.PhaseShifting, v1alpha1.PhaseHolding, v1alpha1.PhaseAwaitingApproval:
	default:
		return ""
	}
	over := run.Outcome != underWay || !s.state.same(run.CandidateRun, d.Template) || c.Deleting || c.Aborted || !d.Paused
	switch s.decision.Status.Phase {
	case v1alpha1.PhaseHeld, v1alpha1.PhaseScaling, v1alpha1.PhaseShifting, v1alpha1.PhaseHolding, v1alpha1.PhaseAwaitingApproval, v1alpha1.PhasePromoting:
		if over {
			return fmt.Sprintf("a run that is over goes on in phase %s", s.decision.Status.Phase)
		}
	}
	return ""
}

func waitsEnd(s *step) string {
	if s.decision.Next != rollout.WhenChanged || !s.decision.Wake.IsZero() || !s.decision.Standing.Reconciling || len(s.decision.Effects) > 0 {
		return ""
	}
	switch s.decision.Standing.Reason {
	case v1alpha1.ReasonScaledToZero, v1alpha1.ReasonPausedByPerson, v1alpha1.ReasonEmergencyStop:
		return ""
	}
	return fmt.Sprintf("nobody looks again: %s: %s", s.decision.Standing.Reason, s.decision.Standing.Message)
}

func failureMovesTraffic(s *step) string {
	if s.decision.Status.Phase != v1alpha1.PhaseRollingBack || s.seen.Split == nil || s.seen.Split.CanaryWeight == 0 {
		return ""
	}
	for _, effect := range s.decision.Effects {
		if e, ok := effect.(rollout.WriteSplit); ok && e.CanaryWeight == 0 {
			return ""
		}
	}
	return "the canary keeps its weight in a rollback"
}
