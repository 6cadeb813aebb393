// SPDX-License-Identifier: Apache-2.0

package model

import (
	"slices"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// normal brings a state into normal form: two states that no future can tell apart become equal.
func (s *State) normal() {
	s.forgetTimes()
	s.forgetRuns()
	s.rankRevisions()
	s.renameTemplates()
	s.renameSets()
}

// forgetTimes drops clocks that nothing reads in a phase. What a plan reads anew must stay here.
func (s *State) forgetTimes() { //nolint:gocyclo // one line for each time that a state holds
	c := &s.Canary
	phase := phaseNames()[c.Phase]
	switch phase {
	case v1alpha1.PhasePromoting:
	case v1alpha1.PhaseScaling:
		c.PhaseAge = without(c.PhaseAge, drainOver, young)
	case v1alpha1.PhaseRollingBack:
		c.PhaseAge = without(c.PhaseAge, progressOver, drainOver)
	case v1alpha1.PhaseStable, v1alpha1.PhaseHeld, v1alpha1.PhaseRejected:
		c.PhaseAge = without(c.PhaseAge, progressOver, drainOver)
		if !s.strays() {
			c.PhaseAge = without(c.PhaseAge, drainOver, young)
		}
	default:
		c.PhaseAge = without(without(c.PhaseAge, drainOver, young), progressOver, young)
	}
	if phase != v1alpha1.PhaseScaling && phase != v1alpha1.PhasePromoting {
		c.Size, c.Ready = 0, 0
	}
	if phase != v1alpha1.PhaseScaling && phase != v1alpha1.PhasePromoting {
		c.Short = false
	}
	if phase == v1alpha1.PhaseStable || phase == v1alpha1.PhaseRejected {
		s.Passed = 0
		c.Aborted, c.Promoted = false, false
	}
	if !judges(phase) || c.StepAge == never {
		c.StepAge, c.VerdictFresh = never, false
	}
	if s.Split.Weight != 0 && s.Split.Weight != 100 {
		s.Split.Open = false
	}
	if !s.Split.Exists {
		s.Split = split{}
	}
	if !s.Deployment.Exists {
		s.Deployment = deployment{NoHistory: s.Deployment.NoHistory}
	}
	annotated := true
	for i := range s.Sets {
		annotated = annotated && (!s.Sets[i].Exists || s.Sets[i].Desired != unannotated)
	}
	if annotated {
		s.Deployment.Counted = 0
	}
	if c.Gone {
		*c = canary{Gone: true}
	}
}

// short: the canary has fewer ready pods than are asked of it.
func (s *State) short() bool {
	slot := s.find(s.Canary.Canary)
	return slot >= 0 && s.Sets[slot].Ready < min(s.Sets[slot].Replicas, s.Deployment.Replicas)
}

// sized: no other size was asked of the canary since the last look.
func (s *State) sized() bool {
	slot := s.find(s.Canary.Canary)
	return slot >= 0 && s.Sets[slot].Replicas == s.Canary.Size
}

// strays: a released set has pods whose drain a phase without a run may wait for.
func (s *State) strays() bool {
	for _, one := range s.Sets {
		if one.Exists && !one.Owned && one.Replicas > 0 {
			return s.Split.Exists
		}
	}
	return false
}

// without replaces an age that nothing tells apart from another.
func without(a, unread, same age) age {
	if a == unread {
		return same
	}
	return a
}

// forgetRuns drops records that can have no say: neither the current nor the newest, and either
// without a word on a template or behind a newer word on it.
func (s *State) forgetRuns() {
	var kept [maxRuns]run
	var moved [maxRuns]int
	var spoken [2 * releases]bool
	// Where restarts are held, each template has a word of its own.
	word := func(t template) template {
		if s.Canary.Restart == 0 {
			return t &^ 1
		}
		return t
	}
	count := 0
	for i := range s.Runs {
		moved[i] = -1
		r := s.Runs[i]
		if !r.Exists {
			continue
		}
		speaks := false
		switch {
		case r.Outcome == rolledBack:
			speaks = !spoken[word(r.CandidateRun)]
			spoken[word(r.CandidateRun)] = true
		case r.Outcome == promoted && r.Ended && r.Recent:
			speaks = !spoken[word(r.StableRun)]
			spoken[word(r.StableRun)] = true
		}
		if r.Outcome != promoted {
			r.Recent = false
		}
		if speaks || count == 0 || s.Canary.Run == runIndex(i+1) || s.Deployment.Hold == heldByRun+holder(i) {
			kept[count], moved[i] = r, count
			count++
		}
	}
	s.Runs = kept
	s.renumberRuns(moved)
}

// renumberRuns follows records to their new places; -1 is gone.
func (s *State) renumberRuns(moved [maxRuns]int) {
	if i := s.Canary.Run; i != noRun && i != goneRun {
		if s.Canary.Run = goneRun; moved[i-1] >= 0 {
			s.Canary.Run = runIndex(moved[i-1] + 1)
		}
	}
	if h := s.Deployment.Hold; h >= heldByRun && h < heldByGone {
		if s.Deployment.Hold = heldByGone; moved[h-heldByRun] >= 0 {
			s.Deployment.Hold = heldByRun + holder(moved[h-heldByRun])
		}
	}
}

// rankRevisions keeps the order of revision numbers, which is all that is ever asked of them.
func (s *State) rankRevisions() {
	numbers := []uint8{0, s.Deployment.Revision}
	for i := range s.Sets {
		numbers = append(numbers, s.Sets[i].Revision)
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	rank := func(number *uint8) {
		at, _ := slices.BinarySearch(numbers, *number)
		*number = uint8(at)
	}
	rank(&s.Deployment.Revision)
	for i := range s.Sets {
		rank(&s.Sets[i].Revision)
	}
}

// renameTemplates numbers releases in the order in which they are met: which letter a release has
// makes no difference.
func (s *State) renameTemplates() {
	var number [releases]uint8
	var met [releases]bool
	next := uint8(0)
	s.templates(func(t *template) {
		r := t.release()
		if !met[r] {
			met[r], number[r] = true, next
			next++
		}
		*t = template(number[r]<<1) | *t&1
	})
}

func (s *State) renameSets() {
	var number [byController]name
	next := nobody
	s.names(func(n *name) {
		if !n.fresh() {
			return
		}
		if number[*n] == nobody {
			next++
			number[*n] = next
		}
		*n = number[*n]
	})
}

// spare is a release that nothing in the state remembers.
func (s *State) spare() (uint8, bool) {
	var used [releases]bool
	s.templates(func(t *template) { used[t.release()] = true })
	for r := range used {
		if !used[r] {
			return uint8(r), true
		}
	}
	return 0, false
}
