// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// ErrOtherConfig says that a State was made with another configuration: the rounds have to be folded anew.
var ErrOtherConfig = errors.New("the gate's state was made with another configuration")

// Resume makes a Gate that goes on from a State. The configuration must be the one that made it.
func Resume(config Config, state State) (*Gate, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	fresh := newState(config, state.End)
	switch {
	case !reflect.DeepEqual(config, state.Config):
		return nil, ErrOtherConfig
	case len(state.Measures) != len(fresh.Measures) || len(state.Ranges) != len(fresh.Ranges) || !state.consistent():
		return nil, fmt.Errorf("%w: it does not hold what it should", ErrOtherConfig)
	}
	return &Gate{config: config, measures: config.measures(), state: state.copied(), scratch: make([]float64, 0, 256)}, nil
}

// consistent: every process has bets for every start.
func (state *State) consistent() bool {
	starts := len(state.Starts.Priors)
	whole := func(rows [][]float64, bets int) bool {
		return len(rows) == starts && !slices.ContainsFunc(rows, func(row []float64) bool { return len(row) != bets })
	}
	for i, measure := range state.Config.measures() {
		m := state.Measures[i]
		if !whole(m.Blame, worseBets) || !whole(m.OverBets, len(overRates(measure.budget))) || len(m.Boundaries) != len(measure.boundaries) || !m.Past.consistent() {
			return false
		}
		for _, b := range m.Boundaries {
			steps := ladderRungs * ladderBets
			if !whole(b.Worse, worseBets) || len(b.AtLeast[0]) != steps || len(b.AtLeast[1]) != steps {
				return false
			}
		}
	}
	return state.Step.Start >= 0 && state.Step.Start < max(1, starts)
}

// State is a copy of what the gate remembers.
func (g *Gate) State() State { return g.state.copied() }
