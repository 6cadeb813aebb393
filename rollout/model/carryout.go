// SPDX-License-Identifier: Apache-2.0

package model

import (
	"bytes"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
)

// hands carry a decision out on a state. Names that plan made up get the next free numbers.
type hands struct {
	*world
	sets map[string]name
	runs map[string]runIndex
	free name
	// misfit is why an effect cannot be modelled; the search fails on it. full says that the
	// abstract cluster has no room.
	misfit string
	full   bool
}

// newHands know the names of the state in which the decision was made.
func (w *world) newHands(s *State) *hands {
	h := &hands{world: w, sets: map[string]name{"": nobody}, runs: map[string]runIndex{"": noRun, appName + "-0": goneRun}, free: s.freshName()}
	s.names(func(n *name) { h.know(*n) })
	for i := range s.Runs {
		if s.Runs[i].Exists {
			h.runs[s.runName(runIndex(i+1))] = runIndex(i + 1)
		}
	}
	return h
}

func (h *hands) know(n name) { h.sets[n.String()], h.sets[n.hash()] = n, n }

// learn takes in a pair of name and hash.
func (h *hands) learn(set, hash string) name {
	if n, known := h.sets[set]; known {
		return n
	}
	h.sets[set], h.sets[hash] = h.free, h.free
	h.free++
	return h.sets[set]
}

// one carries out an effect; false says that a fence stopped it. touched are the objects that others
// have written since they were read.
func (h *hands) one(s *State, effect rollout.Effect, touched touched) bool {
	d := &s.Deployment
	switch e := effect.(type) {
	case rollout.SetFinalizer, rollout.ClearFinalizer:
		return h.finalizer(s, effect, touched)
	case rollout.MarkTarget, rollout.Unpause, rollout.ForgetTarget:
		if touched.deployment || !d.Exists {
			return false
		}
		h.target(s, effect)
	case rollout.CreateRun:
		return h.createRun(s, e)
	case rollout.RecordRun:
		return h.recordRun(s, e, touched)
	case rollout.DeleteRun:
		return h.deleteRun(s, e, touched)
	case rollout.WriteSplit:
		if !d.Exists {
			return false
		}
		s.writeSplit(h.sets[e.StableHash], h.sets[e.CanaryHash], uint8(e.CanaryWeight))
	case rollout.DeleteSplit:
		s.Split = split{}
	case rollout.AskHook, rollout.TellHook, rollout.TakeSlot, rollout.ReleaseSlot:
	default:
		return h.onSet(s, effect, touched)
	}
	return true
}

func (h *hands) finalizer(s *State, effect rollout.Effect, touched touched) bool {
	if touched.canary {
		return false
	}
	if _, set := effect.(rollout.SetFinalizer); set {
		s.Canary.Finalizer = true
		return true
	}
	s.Canary.Finalizer = false
	s.Canary.Gone = s.Canary.Deleting
	return true
}

func (h *hands) target(s *State, effect rollout.Effect) {
	d := &s.Deployment
	paused := d.Paused
	switch e := effect.(type) {
	case rollout.MarkTarget:
		d.Marked, d.Hold = true, h.holder(e.Hold)
		d.Paused = d.Paused || e.Hold != ""
		d.RestartsHeld = s.Canary.Restart != 0
	case rollout.Unpause:
		d.Marked, d.Hold, d.Paused, d.RestartsHeld = true, notHeld, false, s.Canary.Restart != 0
	case rollout.ForgetTarget:
		d.Marked, d.Hold, d.Paused, d.RestartsHeld = false, notHeld, e.StayPaused, false
	}
	if d.Paused != paused {
		d.Complete = false
	}
}

func (h *hands) holder(run string) holder {
	switch i, known := h.runs[run]; {
	case run == v1alpha1.HoldPending:
		return pending
	case !known:
		h.misfit = fmt.Sprintf("the hold names the unknown run %q", run)
		return heldByGone
	case i == noRun:
		return notHeld
	case i == goneRun:
		return heldByGone
	default:
		return heldByRun + holder(i-1)
	}
}

// createRun puts the newest record first; all others move on by one.
func (h *hands) createRun(s *State, e rollout.CreateRun) bool {
	if i, taken := h.runs[e.Name]; taken && i != goneRun {
		return false
	}
	if s.Runs[maxRuns-1].Exists {
		h.full = true
		return false
	}
	made := run{Exists: true, Return: e.Spec.Kind == v1alpha1.RunReturn}
	made.Stable = h.learn(e.Spec.Stable.ReplicaSet, e.Spec.Stable.PodTemplateHash)
	made.Candidate = h.learn(e.Spec.Candidate.ReplicaSet, e.Spec.Candidate.PodTemplateHash)
	made.StableRun, made.CandidateRun = h.recorded(e.Spec.Stable), h.recorded(e.Spec.Candidate)
	copy(s.Runs[1:], s.Runs[:maxRuns-1])
	s.Runs[0] = made
	for run, i := range h.runs {
		if i != noRun && i != goneRun {
			h.runs[run] = i + 1
		}
	}
	h.runs[e.Name] = 1
	if i := &s.Canary.Run; *i != noRun && *i != goneRun {
		*i++
	}
	if held := &s.Deployment.Hold; *held >= heldByRun && *held < heldByGone {
		*held++
	}
	s.Passed = 0
	return true
}

func (h *hands) deleteRun(s *State, e rollout.DeleteRun, touched touched) bool {
	i, known := h.runs[e.Name]
	if touched.runs {
		return false
	}
	if known && i != noRun && i != goneRun {
		s.dropRecord(int(i - 1))
		for name, other := range h.runs {
			switch {
			case other == i:
				h.runs[name] = goneRun
			case other > i && other != goneRun:
				h.runs[name] = other - 1
			}
		}
	}
	return true
}

// recordRun writes an outcome once. A run whose record is gone is not brought back.
func (h *hands) recordRun(s *State, e rollout.RecordRun, touched touched) bool {
	i, known := h.runs[e.Run]
	if !known || i == noRun || i == goneRun {
		return true
	}
	r := &s.Runs[i-1]
	if touched.runs || !r.Exists {
		return !touched.runs
	}
	if r.Outcome == underWay && e.Outcome != "" {
		at := slices.Index(outcomeNames(), e.Outcome)
		if at < 0 {
			h.misfit = fmt.Sprintf("the outcome %q is unknown", e.Outcome)
			return false
		}
		r.Outcome = outcome(at)
	}
	if e.Ended != nil && !r.Ended {
		r.Ended, r.Recent = true, true
	}
	return true
}

// writeSplit forgets acknowledgements: the generation is a new one, unless nothing changes.
func (s *State) writeSplit(stable, canary name, weight uint8) {
	p := &s.Split
	if p.Exists && p.Stable == stable && p.Canary == canary && p.Weight == weight {
		return
	}
	open := false
	if p.Exists {
		switch weight {
		case 0:
			open = p.Canary == canary && (p.Weight > 0 || p.Open)
		case 100:
			open = p.Stable == stable && (p.Weight < 100 || p.Open)
		}
	}
	*p = split{Exists: true, Stable: stable, Canary: canary, Weight: weight, Open: open}
}

func (h *hands) onSet(s *State, effect rollout.Effect, touched touched) bool {
	if e, ok := effect.(rollout.CreateSet); ok {
		return h.createSet(s, e)
	}
	var called string
	switch e := effect.(type) {
	case rollout.ScaleSet:
		called = e.Name
	case rollout.ReleaseSet:
		called = e.Name
	case rollout.GiveBackSet:
		called = e.Name
	case rollout.DeleteSet:
		called = e.Name
	default:
		h.misfit = fmt.Sprintf("the effect %T is unknown", effect)
		return false
	}
	n := h.sets[called]
	slot := s.find(n)
	if slot < 0 || touched.sets[n] {
		return false
	}
	one := &s.Sets[slot]
	switch e := effect.(type) {
	case rollout.ScaleSet:
		one.Replicas = uint8(e.Replicas)
	case rollout.ReleaseSet:
		one.Owned = false
	case rollout.GiveBackSet:
		one.Owned = true
		if e.Handover != nil {
			one.Desired, one.Revision = uint8(e.Handover.Replicas), uint8(e.Handover.Revision)
		}
	case rollout.DeleteSet:
		s.remove(slot)
	}
	return true
}

func (h *hands) createSet(s *State, e rollout.CreateSet) bool {
	n := h.learn(e.Name, e.Hash)
	if s.find(n) >= 0 {
		return false
	}
	made := set{Owned: e.Owned, Name: n, Template: h.templateOf(e.Template), Replicas: uint8(e.Replicas), Desired: unannotated}
	if e.Owned {
		made.Revision = uint8(e.Revision)
	}
	if !s.add(made) {
		h.full = true
		return false
	}
	return true
}

func (h *hands) templateOf(spec corev1.PodTemplateSpec) template {
	restarted := spec.Annotations["kubectl.kubernetes.io/restartedAt"] != ""
	for t := range h.templates {
		if h.templates[t].Spec.Containers[0].Image == spec.Spec.Containers[0].Image && (t&1 != 0) == restarted {
			return template(t)
		}
	}
	h.misfit = fmt.Sprintf("the template %+v is unknown", spec)
	return 0
}

func (h *hands) recorded(revision v1alpha1.RunRevision) template {
	for t := range h.raw {
		if bytes.Equal(h.raw[t].Raw, revision.Template.Raw) {
			return template(t)
		}
	}
	h.misfit = fmt.Sprintf("the recorded template %s is unknown", revision.Template.Raw)
	return 0
}

// status is the one write of a status.
func (h *hands) status(s *State, made *step) {
	decision := &made.decision
	c, status := &s.Canary, &decision.Status
	if c.Gone {
		return
	}
	at := slices.Index(phaseNames(), status.Phase)
	if at < 0 {
		h.misfit = fmt.Sprintf("the phase %q is unknown", status.Phase)
		return
	}
	run, known := h.runs[status.Run]
	if !known {
		run = goneRun
	}
	switch {
	case run != c.Run:
		s.Passed, c.Aborted, c.Promoted = 0, false, false
	case made.passes():
		s.Passed = max(s.Passed, c.Weight)
	}
	c.Phase, c.Run, c.Step, c.Weight = uint8(at), run, int8(status.Step), uint8(status.Weight)
	c.Size, c.Ready = 0, 0
	if status.Canary != nil {
		c.Size, c.Ready = uint8(status.Canary.Replicas), uint8(status.Canary.ReadyReplicas)
	}
	c.Stable, c.Canary = h.revision(status.Stable), h.revision(status.Canary)
	c.PhaseAge = h.phaseAge(status.PhaseStartedAt)
	c.Short = c.Short && made.state.short() && made.state.sized() && c.PhaseAge != young
	c.StepAge, c.VerdictFresh = never, false
	if status.StepStartedAt != nil {
		c.StepAge = young
		if h.now.Sub(status.StepStartedAt.Time) >= stepHold {
			c.StepAge = drainOver
		}
		c.VerdictFresh = status.Verdict != nil && !status.Verdict.Time.Before(&metav1.Time{Time: h.now})
	}
	c.Edited = status.ObservedGeneration != 2
	c.StoodSuspended = decision.Standing.Reason == v1alpha1.ReasonSuspended
}

// passes: the gate was looked at, at a weight in force whose hold is over, and passed.
func (s *step) passes() bool {
	c, split := &s.state.Canary, &s.state.Split
	return judges(c.phase()) && s.look.verdict == analysis.VerdictPass && !s.look.unavailable &&
		(c.StepAge == drainOver || c.Step < 0) && split.Exists && split.Acknowledged && split.Weight == c.Weight && split.Canary == c.Canary
}

func (h *hands) revision(status *v1alpha1.RevisionStatus) name {
	if status == nil {
		return nobody
	}
	return h.learn(status.ReplicaSet, status.PodTemplateHash)
}

// touched are the objects that somebody else wrote between a look and a write.
type touched struct {
	deployment, canary, runs bool
	sets                     map[name]bool
}

// between compares two states in the names of the first. It must be called before normal form.
func between(before, after *State) touched {
	t := touched{deployment: before.Deployment != after.Deployment, runs: before.Runs != after.Runs, sets: map[name]bool{}}
	a, b := before.Canary, after.Canary
	t.canary = a != b
	for i := range before.Sets {
		one := before.Sets[i]
		if slot := after.find(one.Name); one.Exists && (slot < 0 || after.Sets[slot] != one) {
			t.sets[one.Name] = true
		}
	}
	return t
}
