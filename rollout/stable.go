// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/internal/fluxkit"
)

// stable is the phase without a run: the workload rests, rolls out unheld, or a new template is held.
func (p *planner) stable() {
	t := p.seen.Target
	known := p.stableSet()
	switch {
	case p.deleting():
		p.unwind()
	case p.unsuitable() != "":
		p.refuse(p.unsuitable())
	case t.Paused && known == nil:
		p.adoptPaused()
	case t.Paused && !p.same(t.Template, known.Template):
		p.begin(known)
	case t.Paused && t.Hold != "":
		p.release(known, "the held template is stable's")
	case p.bypassesHold(known):
		p.holdAgain()
	default:
		p.settle(known)
	}
}

// bypassesHold: the Deployment has begun to roll a template out that was not held, with no word of a
// person's that it shall, and stable still has pods to go back to. A manifest that unpauses with each
// sync would do so again.
func (p *planner) bypassesHold(known *Set) bool {
	t := p.seen.Target
	return !t.Paused && !t.Unmanaged && t.PauseOwner == "" && known != nil && known.Owned && !known.Deleting && known.Replicas > 0 &&
		!p.same(t.Template, known.Template)
}

// holdAgain stops a rollout that bypassed the hold. The set that it began is released like any other
// beside stable, and becomes the canary; alone in the Deployment, stable is filled up again.
func (p *planner) holdAgain() {
	message := fmt.Sprintf("a new template was rolling out unheld: it is held now, and its pods become the canary; to roll it out without Sluice set the label %s=%s",
		v1alpha1.LabelManage, v1alpha1.ManageOff)
	p.do(MarkTarget{Hold: v1alpha1.HoldPending})
	p.event(true, v1alpha1.ReasonBypassed, message)
	p.moving(v1alpha1.ReasonBypassed, message)
	p.decision.Next = AtOnce
}

// unsuitable says why a workload cannot be released step by step.
func (p *planner) unsuitable() string {
	switch {
	case p.seen.Target.Recreate:
		return "spec.targetRef: the Deployment's strategy is Recreate, so its revisions must never run together; use RollingUpdate"
	case p.surgesAsDeployment() && p.seen.Target.MaxSurge == 0 && p.seen.Target.Replicas > 0:
		return "spec.surge: \"deployment\" takes the pods that the Deployment's maxSurge allows, and that is none; set strategy.rollingUpdate.maxSurge to at least 1 there, or write full here"
	case p.seen.Target.SelectsAll:
		return "spec.targetRef: the Deployment's selector asks for no label that its pods must have, so no ReplicaSet can be taken out of it; give it a matchLabels entry"
	}
	return ""
}

// refuse leaves an unsuitable workload to the Deployment controller.
func (p *planner) refuse(reason string) {
	if t := p.seen.Target; p.bears() {
		p.do(ForgetTarget{StayPaused: t.Paused && t.Hold == ""})
	}
	p.stalled(v1alpha1.ReasonInvalidSpec, reason)
}

// adoptPaused finds stable on a Deployment that was paused before stable was known, or whose stable
// set somebody deleted: the set that serves best. When nothing serves there is nothing to protect.
func (p *planner) adoptPaused() {
	active, best := 0, (*Set)(nil)
	for i := range p.seen.Sets {
		set := &p.seen.Sets[i]
		if !set.Owned || set.Deleting {
			continue
		}
		if set.Replicas > 0 {
			active++
		}
		if best == nil || servesBetter(set, best) {
			best = set
		}
	}
	held := p.seen.Target.Hold != ""
	serves := best != nil && (best.Ready > 0 || p.seen.Target.Replicas == 0)
	switch {
	case active > 1 && !held:
		p.keepMark()
		p.wait(v1alpha1.ReasonPausedByPerson, "the Deployment was paused by somebody in the middle of a rollout; resume it: kubectl rollout resume")
	case serves || best != nil && !held:
		p.adopt(best, "what served when the workload was paused")
	case held:
		p.release(nil, "nothing serves yet that could be called stable")
	default:
		p.keepMark()
		p.wait(v1alpha1.ReasonPausedByPerson, "the Deployment was paused by somebody before its first rollout; resume it: kubectl rollout resume")
	}
}

// servesBetter prefers sets that keep pods, then ready pods; among equals what a half-done rollout
// came from; among sets without any the newest.
func servesBetter(a, b *Set) bool {
	switch {
	case (a.Replicas > 0) != (b.Replicas > 0):
		return a.Replicas > 0
	case a.Ready != b.Ready:
		return a.Ready > b.Ready
	case a.Ready > 0:
		return a.Revision < b.Revision
	}
	return a.Revision > b.Revision
}

// adopt takes a set as stable.
func (p *planner) adopt(set *Set, why string) {
	p.status.Stable = &v1alpha1.RevisionStatus{ReplicaSet: set.Name, PodTemplateHash: set.Hash}
	message := fmt.Sprintf("ReplicaSet %s is %s", set.Name, why)
	p.event(false, v1alpha1.ReasonAdopted, message)
	p.moving(v1alpha1.ReasonProgressing, message)
	p.decision.Next = AtOnce
}

// release lifts the hold. A set that the Deployment controller would have to make anew is given back
// first.
func (p *planner) release(stable *Set, why string) {
	if stable != nil && !stable.Owned {
		p.do(GiveBackSet{Name: stable.Name})
	}
	p.do(Unpause{})
	message := "the hold is released: " + why
	p.event(false, v1alpha1.ReasonReleased, message)
	p.wait(v1alpha1.ReasonWaitingForRollout, message)
}

// settle is the rest of the stable phase: the Deployment controller is in charge.
func (p *planner) settle(known *Set) {
	t := p.seen.Target
	p.keepMark()
	p.status.Canary, p.status.Weight, p.status.Step, p.status.StepStartedAt = nil, 0, 0, nil
	serving := p.seen.serving()
	switch {
	case serving != nil && known != nil && serving.Name == known.Name:
		p.tidy()
		p.rest(serving)
	case serving != nil && t.Complete:
		p.adopt(serving, "stable: its rollout is complete")
	case known != nil && !p.same(t.Template, known.Template):
		p.handAll()
		p.wait(v1alpha1.ReasonBypassed, fmt.Sprintf(
			"a new template is rolling out unheld; waiting until Deployment %s is complete, then it is stable", t.Name))
	case t.Paused:
		p.wait(v1alpha1.ReasonPausedByPerson, "the Deployment was paused by somebody in the middle of a rollout; resume it: kubectl rollout resume")
	default:
		p.wait(v1alpha1.ReasonWaitingForRollout, fmt.Sprintf("waiting until the rollout of Deployment %s is complete", t.Name))
	}
}

// keepMark keeps the label that the admission rule looks for, and takes off a hold that is none.
func (p *planner) keepMark() {
	if t := p.seen.Target; !p.marked() || (t.Hold != "" && !t.Paused) {
		p.do(MarkTarget{})
	}
}

// marked: the labels that the admission rule looks for are there.
func (p *planner) marked() bool {
	t := p.seen.Target
	return t.Canary == p.canary.Name && t.RestartsHeld == holdsRestarts(p.canary)
}

// bears: the Deployment has a label of this Canary's, or a hold.
func (p *planner) bears() bool {
	t := p.seen.Target
	return t.Canary == p.canary.Name || t.RestartsHeld || t.Hold != ""
}

// rest stands Ready unless something is still being put away.
func (p *planner) rest(serving *Set) {
	if len(p.decision.Effects) > 0 || p.decision.Next == NextInterval {
		p.wait(v1alpha1.ReasonProgressing, "putting away what the last run left")
		return
	}
	if owner := p.seen.Target.PauseOwner; owner != "" {
		p.stalled(v1alpha1.ReasonInvalidSpec, fmt.Sprintf(
			"spec.targetRef: %s applies spec.paused: false to the Deployment and would lift each hold with its next sync; leave the field out of the manifest", owner))
		return
	}
	standing := fluxkit.Standing{Ready: metav1.ConditionTrue, Reason: v1alpha1.ReasonStable,
		Message: fmt.Sprintf("revision %s of Deployment %s is stable", serving.Hash, p.seen.Target.Name)}
	switch {
	case p.seen.Target.Paused:
		standing.Reason = v1alpha1.ReasonPausedByPerson
		standing.Message += "; the Deployment is paused, and not by Sluice"
	case p.seen.Target.Unmanaged:
		standing.Message += "; label " + v1alpha1.LabelManage + "=" + v1alpha1.ManageOff + ": new templates are not held"
	}
	p.stand(standing)
}

// tidy puts away what a run left: pods before the split, and then the sets go back to the Deployment's
// history.
func (p *planner) tidy() {
	if !p.cleared() {
		return
	}
	for i := range p.seen.Sets {
		if set := &p.seen.Sets[i]; !set.Owned && !set.Deleting {
			p.putAway(set)
		}
	}
	p.deleteSplit()
}

// handAll leaves everything to the Deployment controller, which is rolling out: it scales sets down
// by its own rules, and keeps those that run what is asked for.
func (p *planner) handAll() {
	p.deleteSplit()
	for i := range p.seen.Sets {
		set := &p.seen.Sets[i]
		switch {
		case set.Owned || set.Deleting:
		case set.Replicas > 0 || set.Pods > 0:
			p.do(GiveBackSet{Name: set.Name})
		default:
			p.putAway(set)
		}
	}
}

// putAway gives a set without pods back, or deletes it when it never was part of the history or
// another of equal template is: two must never match the selector.
func (p *planner) putAway(set *Set) {
	if set.Revision == 0 || p.twin(set) {
		p.do(DeleteSet{Name: set.Name})
		return
	}
	p.do(GiveBackSet{Name: set.Name})
}

// twin: an owned set has the same template.
func (p *planner) twin(set *Set) bool {
	return oldest(p.seen.Sets, func(other *Set) bool {
		return other.Owned && sameTemplate(other.Template, set.Template)
	}) != nil
}

func (p *planner) deleteSplit() {
	if p.seen.Split != nil {
		p.do(DeleteSplit{})
	}
}

// begin starts a run from stable to the held template, unless that was rejected before.
func (p *planner) begin(stable *Set) {
	judged := p.lastWord()
	kind := v1alpha1.RunCanary
	switch {
	case judged == nil:
	case judged.Record.Outcome == v1alpha1.OutcomePromoted:
		kind = v1alpha1.RunReturn
	case p.canary.Annotations[v1alpha1.AnnotationRetry] != judged.Name:
		p.rejectAgain(judged)
		return
	}
	spec, err := p.runSpec(stable, kind)
	if err != nil {
		p.stalled(v1alpha1.ReasonInvalidSpec, err.Error())
		return
	}
	p.status.Run = p.nextRun()
	if unfinished := p.unfinished(); unfinished != nil {
		p.status.Run, spec = unfinished.Name, unfinished.Spec
	} else {
		p.do(CreateRun{Name: p.status.Run, Spec: spec})
	}
	p.status.Canary = &v1alpha1.RevisionStatus{ReplicaSet: spec.Candidate.ReplicaSet, PodTemplateHash: spec.Candidate.PodTemplateHash}
	p.status.Step, p.status.Weight, p.status.StepStartedAt, p.status.Verdict = 0, 0, nil, nil
	p.status.EvidenceSince = nil
	p.event(false, v1alpha1.ReasonRunStarted, fmt.Sprintf("run %s: %s -> %s", p.status.Run, spec.Stable.ReplicaSet, spec.Candidate.ReplicaSet))
	p.enter(v1alpha1.PhaseHeld, fmt.Sprintf("a new template is held (%s)", describe(spec)))
}

// runSpec fixes what the run is about. A set of the history with exactly the held template is the
// canary; a second one would be passed over by the Deployment controller.
func (p *planner) runSpec(stable *Set, kind v1alpha1.RunKind) (v1alpha1.CanaryRunSpec, error) {
	t := p.seen.Target
	spec := v1alpha1.CanaryRunSpec{
		Canary: p.canary.Name, TargetRef: p.canary.Spec.TargetRef, Kind: kind, Source: p.seen.Source, Previous: p.previous(),
	}
	var err error
	if spec.Stable, err = revisionOf(stable.Name, stable.Hash, stable.Template); err != nil {
		return spec, err
	}
	hash := newHash(p.nextRun(), t.Generation)
	name := t.Name + "-" + hash
	past := oldest(p.seen.Sets, func(set *Set) bool {
		return set.Name != stable.Name && sameTemplate(set.Template, t.Template)
	})
	if past != nil {
		name, hash = past.Name, past.Hash
	}
	spec.Candidate, err = revisionOf(name, hash, t.Template)
	return spec, err
}

// lastWord is the newest run that rejected the held template, or that replaced it as stable so recently
// that it may be returned to.
func (p *planner) lastWord() *v1alpha1.CanaryRun {
	for i := range p.seen.Runs {
		run := &p.seen.Runs[i]
		switch run.Record.Outcome {
		case v1alpha1.OutcomeRolledBack:
			if p.speaksOf(templateOf(run.Spec.Candidate)) {
				return run
			}
		case v1alpha1.OutcomePromoted:
			if p.speaksOf(templateOf(run.Spec.Stable)) && p.withinWindow(run.Record.EndedAt) {
				return run
			}
		}
	}
	return nil
}

func (p *planner) withinWindow(ended *metav1.Time) bool {
	window := durationOr(p.canary.Spec.RollbackWindow, defaultRollbackWindow)
	return ended != nil && window > 0 && p.now.Sub(ended.Time) <= window // Records say up to a second more.
}

// unfinished is a run for the held template that was created and not entered: the controller died.
func (p *planner) unfinished() *v1alpha1.CanaryRun {
	if len(p.seen.Runs) == 0 || p.seen.Runs[0].Record.Outcome != "" || !p.targetIs(templateOf(p.seen.Runs[0].Spec.Candidate)) {
		return nil
	}
	return &p.seen.Runs[0]
}

// previous ties a new run to the record of the one before.
func (p *planner) previous() *v1alpha1.RunLink {
	if len(p.seen.Runs) == 0 || p.seen.Runs[0].Record.Head == nil {
		return nil
	}
	last := &p.seen.Runs[0]
	return &v1alpha1.RunLink{Run: last.Name, Number: last.Record.Head.Number, Hash: last.Record.Head.Hash}
}

func (p *planner) nextRun() string {
	highest := 0
	for _, run := range p.seen.Runs {
		highest = max(highest, runNumber(p.canary.Name, run.Name))
	}
	return fmt.Sprintf("%s-%d", p.canary.Name, highest+1)
}

func runNumber(canary, run string) int {
	number, err := strconv.Atoi(strings.TrimPrefix(run, canary+"-"))
	if err != nil {
		return 0
	}
	return number
}

// describe names what changes for people: the images, if they do.
func describe(spec v1alpha1.CanaryRunSpec) string {
	var changes []string
	for name, image := range spec.Candidate.Images {
		if old := spec.Stable.Images[name]; old != image {
			changes = append(changes, fmt.Sprintf("%s: %s -> %s", name, old, image))
		}
	}
	if len(changes) == 0 {
		return "the same images"
	}
	return strings.Join(sorted(changes), ", ")
}
