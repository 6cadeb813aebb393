// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/internal/fluxkit"
)

// Plan decides what to do about a Canary. It is PURE: the same Canary, observation and time give the
// same decision, and nothing that is passed in is changed.
func Plan(canary *v1alpha1.Canary, seen Observed, now time.Time) Decision {
	p := newPlanner(canary, seen, now)
	p.decide()
	return p.conclude()
}

// planner builds one Decision. Its methods are the phases of a run; each lives in the file that is
// named after what it does: stable.go, canary.go, promote.go, rollback.go, unwind.go.
type planner struct {
	canary *v1alpha1.Canary
	seen   Observed
	now    time.Time

	status   v1alpha1.CanaryStatus
	run      *v1alpha1.CanaryRun
	decision Decision
	record   RecordRun
	// asks are questions to webhooks. They come after all other effects: no webhook stops a rollback
	// because it cannot be asked.
	asks []AskHook
	// answers of webhooks go into the record with the next transition.
	answers []v1alpha1.RunHook
	// digest of the steps, once somebody asked for it.
	digest string
	// transition is why the phase was entered.
	transition string
	// measurement goes into the next entry of the record.
	measurement *v1alpha1.RunMeasurement
}

func newPlanner(canary *v1alpha1.Canary, seen Observed, now time.Time) *planner {
	status := *canary.Status.DeepCopy()
	if status.Phase == "" {
		status.Phase = v1alpha1.PhaseStable
	}
	seen.Sets = slices.Clone(seen.Sets)
	p := &planner{canary: canary, seen: seen, now: now, status: status, run: seen.run(status.Run)}
	p.status.Queue = nil
	p.resume()
	p.rescale()
	return p
}

// resume restarts the clocks after a suspension: time in which nothing was done is no evidence.
func (p *planner) resume() {
	for _, condition := range p.canary.Status.Conditions {
		if condition.Reason == v1alpha1.ReasonSuspended && !p.canary.Spec.Suspend {
			p.status.PhaseStartedAt = stamp(p.now)
			if p.status.StepStartedAt != nil {
				p.status.StepStartedAt = stamp(p.now)
			}
		}
	}
}

// decide looks first at what makes a run impossible, then at the phase.
func (p *planner) decide() {
	switch {
	case p.deleting() && (p.seen.NamespaceTerminating || p.absent() || p.seen.Rival != ""):
		p.do(ClearFinalizer{})
		p.moving(v1alpha1.ReasonProgressing, "the Canary is being deleted and has nothing to unwind")
	case p.seen.Rival != "":
		p.stalled(v1alpha1.ReasonTargetConflict, fmt.Sprintf(
			"spec.targetRef: Canary %q is older and has the same target; delete one of the two", p.seen.Rival))
	case p.absent():
		p.targetAbsent()
	case p.canary.Spec.Suspend && !p.deleting() && !p.takesBack():
		p.stand(fluxkit.Standing{Ready: metav1.ConditionUnknown, Reason: v1alpha1.ReasonSuspended,
			Message: fmt.Sprintf("spec.suspend is true: phase %s stays as it is", p.status.Phase)})
	default:
		p.keepFinalizer()
		p.phase()
		p.keepSlots()
		p.restart()
		p.late()
	}
}

func (p *planner) phase() {
	switch p.status.Phase {
	case v1alpha1.PhaseStable:
		p.stable()
	case v1alpha1.PhaseHeld:
		p.held()
	case v1alpha1.PhaseScaling:
		p.scaling()
	case v1alpha1.PhaseShifting:
		p.shifting()
	case v1alpha1.PhaseHolding, v1alpha1.PhaseAwaitingApproval:
		p.holding()
	case v1alpha1.PhasePromoting:
		p.promoting()
	case v1alpha1.PhaseRollingBack:
		p.rollingBack()
	case v1alpha1.PhaseRejected:
		p.rejected()
	default:
		p.stalled(v1alpha1.ReasonInvalidSpec, fmt.Sprintf("status.phase: %q is not a phase of this version of Sluice", p.status.Phase))
	}
}

// conclude completes the Decision from what the phase left.
func (p *planner) conclude() Decision {
	if p.status.Phase == v1alpha1.PhaseStable && p.decision.Standing.Ready == metav1.ConditionTrue {
		p.prune()
	}
	if len(p.record.Entries) > 0 || p.record.Outcome != "" {
		p.do(p.record)
	}
	p.tell()
	for _, ask := range p.asks {
		p.do(ask)
	}
	p.tellHooks()
	p.status.ObservedGeneration = p.canary.Generation
	if p.seen.Target != nil {
		p.status.ObservedWorkloadGeneration = p.seen.Target.Generation
	}
	p.count(p.status.Stable)
	p.count(p.status.Canary)
	p.showDigest()
	p.decision.Status = p.status
	return p.decision
}

// count brings a revision's numbers up to date.
func (p *planner) count(revision *v1alpha1.RevisionStatus) {
	if revision == nil {
		return
	}
	revision.Replicas, revision.ReadyReplicas = 0, 0
	if set := p.seen.set(revision.ReplicaSet); set != nil {
		revision.Replicas, revision.ReadyReplicas = set.Replicas, set.Ready
	}
}

// targetAbsent ends whatever was under way: the Deployment's sets go with it.
func (p *planner) targetAbsent() {
	if p.status.Phase != v1alpha1.PhaseStable {
		p.end(v1alpha1.OutcomeCancelled, "the workload is gone")
		p.status.Weight = 0
		p.enter(v1alpha1.PhaseStable, "the workload is gone")
	}
	p.status.Stable, p.status.Canary = nil, nil
	p.deleteSplit()
	p.decision.Next = WhenChanged
	p.stalled(v1alpha1.ReasonTargetNotFound, fmt.Sprintf(
		"spec.targetRef.name: there is no Deployment %q in namespace %q; create it or delete this Canary",
		p.canary.Spec.TargetRef.Name, p.canary.Namespace))
}

func (p *planner) absent() bool   { return p.seen.Target == nil || p.seen.Target.Deleting }
func (p *planner) deleting() bool { return !p.canary.DeletionTimestamp.IsZero() }

func (p *planner) keepFinalizer() {
	if p.deleting() {
		return
	}
	for _, finalizer := range p.canary.Finalizers {
		if finalizer == v1alpha1.FinalizerCanary {
			return
		}
	}
	p.do(SetFinalizer{})
}

// do adds an effect.
func (p *planner) do(effects ...Effect) {
	p.decision.Effects = append(p.decision.Effects, effects...)
}

// enter moves to a phase, at once looked at again.
func (p *planner) enter(phase v1alpha1.Phase, message string) {
	p.noteAnswers()
	p.status.Phase = phase
	p.status.PhaseStartedAt = stamp(p.now)
	p.append(message, true)
	p.transition = message
	p.moving(v1alpha1.ReasonProgressing, message)
	p.decision.Next = AtOnce
}

// note appends to the run's record what happened within a phase.
func (p *planner) note(message string) { p.append(message, false) }

func (p *planner) append(message string, enters bool) {
	entry := p.entry(message)
	entry.Measurement, p.measurement = p.measurement, nil
	p.record.Run = p.status.Run
	p.record.Entries = append(p.record.Entries, Entry{Enters: enters, RunEntry: entry})
}

// entry of the run's record: where the run stands now.
func (p *planner) entry(message string) v1alpha1.RunEntry {
	entry := v1alpha1.RunEntry{Time: *stamp(p.now), Phase: p.status.Phase, Weight: p.status.Weight, Message: message}
	if total := p.total(); total != v1alpha1.DefaultTotalWeight {
		entry.TotalWeight = total
	}
	return entry
}

// decideOutcome writes down how the run will end; end also closes the record.
func (p *planner) decideOutcome(outcome v1alpha1.Outcome) {
	p.record.Run, p.record.Outcome = p.status.Run, outcome
}

func (p *planner) end(outcome v1alpha1.Outcome, message string) {
	p.decideOutcome(outcome)
	p.record.Ended = &p.now
	p.note(message)
}

func (p *planner) event(warning bool, reason, message string) {
	p.decision.Events = append(p.decision.Events, Event{Warning: warning, Reason: reason, Message: message})
}

func (p *planner) stand(standing fluxkit.Standing) { p.decision.Standing = standing }

func (p *planner) moving(reason, message string) {
	p.stand(fluxkit.Standing{Ready: metav1.ConditionUnknown, Reconciling: true, Reason: reason, Message: message})
}

// wait says what is waited for, and looks again after the interval.
func (p *planner) wait(reason, message string) {
	p.moving(reason, message)
	p.soon()
}

func (p *planner) stalled(reason, message string) {
	p.stand(fluxkit.Standing{Ready: metav1.ConditionFalse, Stalled: true, Reason: reason, Message: message})
}

// stableSet and canarySet are the ReplicaSets of the run's two revisions; nil when they are gone.
func (p *planner) stableSet() *Set {
	if p.status.Stable == nil {
		return nil
	}
	return p.seen.set(p.status.Stable.ReplicaSet)
}

func (p *planner) canarySet() *Set {
	if p.status.Canary == nil {
		return nil
	}
	return p.seen.set(p.status.Canary.ReplicaSet)
}

// stableTemplate is stable's template: the set's, because the API server has brought that up to its
// own version, else the recorded one.
func (p *planner) stableTemplate() (corev1.PodTemplateSpec, bool) {
	if set := p.stableSet(); set != nil {
		return set.Template, true
	}
	if p.run == nil {
		return corev1.PodTemplateSpec{}, false
	}
	return templateOf(p.run.Spec.Stable)
}

func (p *planner) canaryTemplate() (corev1.PodTemplateSpec, bool) {
	if set := p.canarySet(); set != nil {
		return set.Template, true
	}
	if p.run == nil {
		return corev1.PodTemplateSpec{}, false
	}
	return templateOf(p.run.Spec.Candidate)
}

// targetIs says whether the workload asks for a template.
func (p *planner) targetIs(template corev1.PodTemplateSpec, known bool) bool {
	return known && p.same(p.seen.Target.Template, template)
}

// since is how long the current phase has lasted.
func (p *planner) since() time.Duration {
	if p.status.PhaseStartedAt == nil {
		return 0
	}
	return p.now.Sub(p.status.PhaseStartedAt.Time)
}

// stamp rounds a time up to the second that the API keeps, so that no wait is ever shorter than asked.
func stamp(now time.Time) *metav1.Time {
	rounded := metav1.NewTime(now.Add(time.Second - 1).Truncate(time.Second))
	return &rounded
}
