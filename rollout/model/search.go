// SPDX-License-Identifier: Apache-2.0

package model

import (
	"hash/maphash"
	"regexp"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
)

// Options bound a search.
type Options struct {
	// Disturbances is how many things may go other than by themselves on one path.
	Disturbances int
	// States stops the search after so many, 0 never.
	States int
	// Replicas is what the workload begins with, and the most that an autoscaler sets.
	Replicas uint8
	// Asks: webhooks, people and policies are asked.
	Asks bool
	// Restart is what the Canary begins with; with one, people also promote and edit it.
	Restart v1alpha1.Restart
}

// Result of a search.
type Result struct {
	// States that differ, and how many of them are at each number of disturbances.
	States int
	Layers []int
	// Plans is how often Plan was asked; Moves how many steps between states were looked at; CutOff
	// how many led out of the bounds of the abstract cluster.
	Plans, Moves, CutOff int
	// Complete: everything within the number of disturbances was seen.
	Complete bool
	// Violation is the shortest way to a broken invariant; nil when there is none.
	Violation *Violation

	transitions map[Transition]bool
}

// node is a state that was met: how, and at what cost.
type node struct {
	parent, move uint32
	cost         uint8
}

// search is a breadth-first search in order of disturbances, then of steps. It keeps a fingerprint
// of 64 bits of each state: with ten million states the chance that any two share one is 3 in a
// million.
type search struct {
	*world
	options Options
	seed    maphash.Seed
	index   map[uint64]uint32
	nodes   []node
	queues  [][]pendingState
	rested  map[uint64]bool
	general *regexp.Regexp
	result  Result
}

type pendingState struct {
	state State
	node  uint32
}

// Search tries Plan in all worlds that the options allow.
func Search(options Options) (*Result, error) {
	s, err := newSearch(options)
	if err != nil {
		return nil, err
	}
	for i, initial := range options.initialStates() {
		s.meet(initial, uint32(len(s.nodes)), uint32(i), 0)
	}
	s.result.Complete = s.run()
	s.result.States = len(s.nodes)
	return &s.result, nil
}

func newSearch(options Options) (*search, error) {
	w, err := newWorld()
	if err != nil {
		return nil, err
	}
	general, err := particular()
	if err != nil {
		return nil, err
	}
	s := &search{
		world: w, options: options, general: general, seed: maphash.MakeSeed(), index: map[uint64]uint32{}, rested: map[uint64]bool{},
		queues: make([][]pendingState, options.Disturbances+2),
		result: Result{transitions: map[Transition]bool{}, Layers: make([]int, options.Disturbances+1)},
	}
	return s, nil
}

func (s *search) run() bool {
	for cost := range s.options.Disturbances + 1 {
		for len(s.queues[cost]) > 0 {
			next := s.queues[cost][0]
			s.queues[cost] = s.queues[cost][1:]
			if int(s.nodes[next.node].cost) < cost {
				continue // met again on a cheaper way
			}
			s.result.Layers[cost]++
			if s.result.Violation = s.expand(&next.state, next.node, cost); s.result.Violation != nil {
				return false
			}
			if s.options.States > 0 && len(s.nodes) > s.options.States {
				return false
			}
		}
	}
	return true
}

func (s *search) meet(state State, parent, move uint32, cost int) {
	s.result.Moves++
	if cost > s.options.Disturbances {
		return
	}
	state.normal()
	mark := maphash.Comparable(s.seed, state)
	at, known := s.index[mark]
	switch {
	case !known:
		at = uint32(len(s.nodes))
		s.index[mark] = at
		s.nodes = append(s.nodes, node{parent, move, uint8(cost)})
	case int(s.nodes[at].cost) > cost:
		s.nodes[at] = node{parent, move, uint8(cost)}
	default:
		return
	}
	s.queues[cost] = append(s.queues[cost], pendingState{state, at})
}

// expand meets all successors of a state.
func (s *search) expand(state *State, at uint32, cost int) *Violation {
	ordinal := uint32(0)
	failure := s.moves(state, s.options.Disturbances-cost, func(m *move) bool {
		if m.full {
			s.result.CutOff++
		} else if m.next != *state {
			s.meet(m.next, at, ordinal, cost+m.cost)
		}
		ordinal++
		return true
	})
	if failure == nil {
		failure = s.comesToRest(state)
	}
	if failure == nil {
		return nil
	}
	return s.violation(at, failure)
}

// looks are what the gate, the scheduler and webhooks can say in a state, with their costs.
func (o *Options) looks(s *State) []costlyLook {
	found := []costlyLook{{look{verdict: analysis.VerdictPass}, 0}}
	if o.Asks {
		found = append(found, costlyLook{look{verdict: analysis.VerdictPass, slotless: true}, 0},
			costlyLook{look{verdict: analysis.VerdictPass, emergency: true}, 1})
		found = append(found, costlyLook{look{verdict: analysis.VerdictPass, unapproved: true}, 0}, costlyLook{look{verdict: analysis.VerdictPass, hooks: silent}, 0},
			costlyLook{look{verdict: analysis.VerdictPass, hooks: refuse}, 1}, costlyLook{look{verdict: analysis.VerdictPass, hooks: recall}, 1})
	}
	switch phaseNames()[s.Canary.Phase] {
	case v1alpha1.PhaseHolding, v1alpha1.PhaseAwaitingApproval:
		found = append(found, costlyLook{look{verdict: analysis.VerdictWait}, 0}, costlyLook{look{verdict: analysis.VerdictHold}, 0},
			costlyLook{look{verdict: analysis.VerdictFail}, 1}, costlyLook{look{unavailable: true}, 1})
	case v1alpha1.PhaseScaling, v1alpha1.PhasePromoting:
		if s.Canary.PhaseAge == progressOver {
			found = append(found, costlyLook{look{starved: true}, 1})
		}
	}
	return found
}

type costlyLook struct {
	look look
	cost int
}

// plan asks for a decision.
func (s *search) plan(state *State, l look) (*v1alpha1.Canary, rollout.Observed, rollout.Decision) {
	s.result.Plans++
	canary, seen := s.canary(state), s.observe(state)
	l.into(&seen, judges(canary.Status.Phase))
	if !s.options.Asks {
		return canary, seen, rollout.Plan(canary, seen, s.now)
	}
	canary.Spec.Webhooks = webhooks()
	s.approve(canary, &seen, l)
	govern(canary, &seen, l)
	decision := s.answered(canary, &seen, l.hooks)
	return canary, seen, decision
}
