// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"strings"
)

// failure is a broken invariant in one state.
type failure struct {
	invariant, why string
	// step is the decision that breaks it; nil when it is what the state comes to.
	step *step
	// path is how the state came to it, when that is more than one decision.
	path []State
}

// Violation is the way from an initial state to a broken invariant: with the fewest disturbances,
// and of those ways the shortest.
type Violation struct {
	Invariant, Why string
	// Trace has one line or paragraph for each move, with the state after it.
	Trace []string
}

func (v *Violation) String() string {
	return fmt.Sprintf("%s: %s\n%s", v.Invariant, v.Why, strings.Join(v.Trace, "\n"))
}

// violation replays the moves to a state.
func (s *search) violation(at uint32, failed *failure) *Violation {
	var way []node
	start := at
	for ; s.nodes[start].parent != start; start = s.nodes[start].parent {
		way = append(way, s.nodes[start])
	}
	state := s.options.initialStates()[s.nodes[start].move]
	state.normal()
	v := &Violation{Invariant: failed.invariant, Why: failed.why, Trace: []string{"     " + state.String()}}
	for i := len(way) - 1; i >= 0; i-- {
		ordinal, left := uint32(0), s.options.Disturbances-int(s.nodes[way[i].parent].cost)
		var taken *move
		before := state
		s.moves(&before, left, func(m *move) bool {
			if taken == nil && ordinal == way[i].move {
				taken = m
			}
			ordinal++
			return taken == nil
		})
		if taken == nil {
			v.Trace = append(v.Trace, "     (the way could not be replayed)")
			break
		}
		state = taken.next
		shown := taken.describe(&before)
		state.normal()
		v.Trace = append(v.Trace, fmt.Sprintf("%3d  %s\n     %s", len(way)-i, shown, changes(&before, &state)))
	}
	for i := range failed.path {
		v.Trace = append(v.Trace, "     calm "+changes(&state, &failed.path[i]))
		state = failed.path[i]
	}
	if failed.step != nil {
		last := &move{attempt: &attempt{step: failed.step, effects: len(failed.step.decision.Effects), status: true}}
		v.Trace = append(v.Trace, "  !  "+last.describe(&state))
	}
	return v
}

// changes shows a state with what differs from the one before marked by >.
func changes(before, after *State) string {
	old := before.parts()
	parts := after.parts()
	for i, part := range parts {
		if i >= len(old) || old[i] != part {
			parts[i] = ">" + part
		}
	}
	return strings.Join(parts, " | ")
}

func (s *State) String() string { return strings.Join(s.parts(), " | ") }

// parts are the objects of a state, each in a few words.
func (s *State) parts() []string {
	d, c, p := &s.Deployment, &s.Canary, &s.Split
	workload := "no Deployment"
	if d.Exists {
		workload = fmt.Sprintf("Deployment %s x%d", d.Template, d.Replicas) +
			flags("paused", d.Paused, "unmarked", !d.Marked, "break-glass", d.Unmanaged, "complete", d.Complete, "no history", d.NoHistory)
		if d.Hold != notHeld {
			workload += " hold=" + s.holdLabel()
		}
	}
	status := "no Canary"
	if !c.Gone {
		status = fmt.Sprintf("Canary %s step %d weight %d stable=%s canary=%s run=%s", phaseNames()[c.Phase], c.Step, c.Weight, c.Stable, c.Canary, s.runName(c.Run)) +
			flags("deleting", c.Deleting, "suspended", c.Suspended, "edited", c.Edited, "step's hold over", c.StepAge == drainOver, "finalizer", c.Finalizer) +
			[...]string{young: "", drainOver: " after the drain deadline", progressOver: " after the progress deadline"}[c.PhaseAge%never]
		if c.Steps != 0 {
			status += fmt.Sprintf(" steps %v", stepLists()[c.Steps])
		}
	}
	traffic := "no split"
	if p.Exists {
		traffic = fmt.Sprintf("split %s/%s weight %d", p.Stable, p.Canary, p.Weight) + flags("acknowledged", p.Acknowledged, "open", p.Open)
	}
	parts := []string{workload, status, traffic, s.records()}
	for _, one := range s.Sets {
		if one.Exists {
			parts = append(parts, fmt.Sprintf("%s(%s) %d/%d/%d r%d", one.Name, one.Template, one.Replicas, one.Pods, one.Ready, one.Revision)+
				flags("released", !one.Owned))
		}
	}
	return parts
}

func (s *State) records() string {
	var texts []string
	for i, r := range s.Runs {
		if !r.Exists {
			continue
		}
		kind := "canary"
		if r.Return {
			kind = "return"
		}
		texts = append(texts, fmt.Sprintf("%s %s %s->%s(%s)", s.runName(runIndex(i+1)), kind, r.StableRun, r.CandidateRun, r.Candidate)+
			flags(string(outcomeNames()[r.Outcome]), r.Outcome != underWay, "ended", r.Ended, "old", r.Outcome == promoted && r.Ended && !r.Recent))
	}
	if len(texts) == 0 {
		return "no runs"
	}
	return strings.Join(texts, ", ")
}

// flags lists the names of what is true: name, truth, name, truth.
func flags(pairs ...any) string {
	text := ""
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == true {
			text += fmt.Sprintf(" %v", pairs[i])
		}
	}
	return text
}
