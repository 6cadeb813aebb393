// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"strings"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
)

// move is one step from a state to another: something happens, or the rollout controller looks at
// the Canary and acts.
type move struct {
	next State
	cost int
	// full: it leads out of the bounds of the abstract cluster.
	full bool

	happening happening
	attempt   *attempt
}

// attempt is one reconcile: what was seen and decided, and how far it came.
type attempt struct {
	*step
	// effects carried out, up to a crash or a conflict; status says that the status was written too.
	effects int
	status  bool
	// between happened after so many effects; another: another leader's whole reconcile did.
	between *happening
	after   int
	another bool
}

// step is a decision with all it was made from: what an invariant judges.
type step struct {
	state    *State
	canary   *v1alpha1.Canary
	seen     rollout.Observed
	look     look
	decision rollout.Decision
}

// moves visits the moves of a state that cost no more than what is left. The order never changes.
func (s *search) moves(state *State, left int, visit func(*move) bool) *failure {
	for _, h := range state.happenings() {
		if h.cost() > left || !s.allowed(h) {
			continue
		}
		m := &move{next: *state, cost: h.cost(), happening: h}
		m.full = !m.next.happen(h)
		if !visit(m) {
			return nil
		}
	}
	if state.Canary.Gone {
		return nil
	}
	for _, l := range s.options.looks(state) {
		if l.cost > left {
			continue
		}
		if failed := s.reconciles(state, l, left-l.cost, visit); failed != nil {
			return failed
		}
	}
	return nil
}

// allowed: the options bound what happens.
func (s *search) allowed(h happening) bool {
	switch h.kind {
	case scaleTo:
		return h.arg <= s.options.Replicas
	case promote, editRestart:
		return s.options.Restart != ""
	}
	return true
}

// reconciles visits one decision carried out whole, by a controller that dies at each write, and
// with something happening before each write.
func (s *search) reconciles(state *State, l costlyLook, left int, visit func(*move) bool) *failure {
	canary, seen, decision := s.plan(state, l.look)
	made := &step{state: state, canary: canary, seen: seen, look: l.look, decision: decision}
	s.transition(made)
	if failed := made.check(); failed != nil {
		return failed
	}
	whole := &move{next: *state, cost: l.cost, attempt: &attempt{step: made, effects: len(decision.Effects), status: true}}
	hands := s.newHands(state)
	hands.all(&whole.next, whole.attempt, 0, touched{})
	whole.full = hands.full
	if hands.misfit != "" {
		return &failure{invariant: "the model knows what plan does", why: hands.misfit, step: made}
	}
	if !visit(whole) || left == 0 {
		return nil
	}
	for after := 0; after <= len(decision.Effects); after++ {
		partly := *state
		hands := s.newHands(state)
		died := &attempt{step: made, effects: after}
		for i, effect := range decision.Effects[:after] {
			if !hands.one(&partly, effect, touched{}) {
				died.effects = i
				break
			}
		}
		if hands.full {
			continue
		}
		if !visit(&move{next: partly, cost: l.cost + 1, attempt: died}) {
			return nil
		}
		s.interrupted(made, &partly, after, left-1, visit)
	}
	return nil
}

// interrupted visits what comes of a decision when others write after some of its effects. What only
// stops it at a fence is the same as a crash there; what matters is what no fence stops.
func (s *search) interrupted(made *step, partly *State, after, left int, visit func(*move) bool) {
	for _, h := range partly.happenings() {
		switch h.kind {
		case controllerSyncs, push, scaleTo, deleteSet, replaceDeployment, restart, unpause, deleteSplit, deleteRecord:
		default:
			continue
		}
		if h.cost() > left || !s.allowed(h) {
			continue
		}
		next := *partly
		m := &move{cost: 1 + h.cost(), full: !next.happen(h), attempt: &attempt{step: made, between: &h, after: after}}
		s.goOn(m, partly, &next, visit)
	}
	// A controller that lost its lease without noticing goes on beside the next one.
	next := *partly
	before := next
	canary, seen, decision := s.plan(&before, made.look)
	hands := s.newHands(&before)
	hands.all(&next, &attempt{step: &step{state: &before, canary: canary, seen: seen, look: made.look, decision: decision}}, 0, touched{})
	s.goOn(&move{cost: 1, full: hands.full, attempt: &attempt{step: made, another: true, after: after}}, partly, &next, visit)
}

// goOn carries out the rest of a decision after something happened.
func (s *search) goOn(m *move, partly, next *State, visit func(*move) bool) {
	if *partly == *next || m.full {
		return
	}
	hands := s.newHands(m.attempt.state)
	scratch := *m.attempt.state
	for _, effect := range m.attempt.decision.Effects[:m.attempt.after] {
		hands.one(&scratch, effect, touched{})
	}
	hands.relearn(next)
	m.next = *next
	hands.all(&m.next, m.attempt, m.attempt.after, between(partly, next))
	m.full = hands.full
	visit(m)
}

// all carries out a decision from its nth effect on, and writes the status.
func (h *hands) all(s *State, a *attempt, from int, touched touched) {
	for i, effect := range a.decision.Effects[from:] {
		if a.effects = from + i; !h.one(s, effect, touched) {
			return
		}
	}
	a.effects = len(a.decision.Effects)
	if a.status = !touched.canary; a.status {
		h.status(s, a.step)
	}
}

// relearn takes in the names that others have made meanwhile.
func (h *hands) relearn(s *State) {
	s.names(func(n *name) { h.know(*n) })
	h.free = max(h.free, s.freshName())
	for run, i := range h.runs {
		if i != noRun && i != goneRun {
			h.runs[run] = goneRun
		}
	}
	for i := range s.Runs {
		if s.Runs[i].Exists {
			h.runs[s.runName(runIndex(i+1))] = runIndex(i + 1)
		}
	}
}

// describe says in words what a move does to a state.
func (m *move) describe(s *State) string {
	a := m.attempt
	if a == nil {
		return m.happening.describe(s)
	}
	text := &strings.Builder{}
	fmt.Fprintf(text, "controller looks")
	if judges(s.Canary.phase()) {
		fmt.Fprintf(text, " (gate: %s)", a.look)
	}
	text.WriteString(a.look.asides())
	for i, effect := range a.decision.Effects {
		if i == a.after && (a.between != nil || a.another) {
			fmt.Fprintf(text, "\n        meanwhile: %s", a.meanwhile(s))
		}
		if i == a.effects {
			fmt.Fprintf(text, "\n        stops before: %s", effectText(effect))
			return text.String()
		}
		fmt.Fprintf(text, "\n        %s", effectText(effect))
	}
	if a.after == len(a.decision.Effects) && (a.between != nil || a.another) {
		fmt.Fprintf(text, "\n        meanwhile: %s", a.meanwhile(s))
	}
	if !a.status {
		text.WriteString("\n        stops before the status is written")
		return text.String()
	}
	fmt.Fprintf(text, "\n        status: %s (%s: %s)", a.decision.Status.Phase, a.decision.Standing.Reason, a.decision.Standing.Message)
	return text.String()
}

func (a *attempt) meanwhile(s *State) string {
	if a.another {
		return "another leader looks and acts"
	}
	return a.between.describe(s)
}

func (l look) String() string {
	if l.unavailable {
		return "no data"
	}
	return string(l.verdict)
}

// asides are what a look saw beside the gate.
func (l look) asides() string {
	text := ""
	if l.hooks != agree {
		text = " (" + l.hooks.String() + ")"
	}
	for _, aside := range []struct {
		seen bool
		text string
	}{
		{l.starved, "no room for pods"}, {l.unapproved, "nobody has approved"}, {l.slotless, "no slot is free"}, {l.emergency, "emergency stop"},
	} {
		if aside.seen {
			text += " (" + aside.text + ")"
		}
	}
	return text
}

// effectText is an effect without the templates, which would hide the rest.
func effectText(effect rollout.Effect) string {
	switch e := effect.(type) {
	case rollout.CreateRun:
		return fmt.Sprintf("CreateRun %s %s: %s -> %s", e.Name, e.Spec.Kind, e.Spec.Stable.ReplicaSet, e.Spec.Candidate.ReplicaSet)
	case rollout.RecordRun:
		return fmt.Sprintf("RecordRun %s outcome=%q ended=%v entries=%d", e.Run, e.Outcome, e.Ended != nil, len(e.Entries))
	case rollout.CreateSet:
		return fmt.Sprintf("CreateSet %s replicas=%d owned=%v", e.Name, e.Replicas, e.Owned)
	case rollout.GiveBackSet:
		if e.Handover != nil {
			return fmt.Sprintf("GiveBackSet %s handover %+v", e.Name, *e.Handover)
		}
		return "GiveBackSet " + e.Name
	}
	return fmt.Sprintf("%T %+v", effect, effect)
}
