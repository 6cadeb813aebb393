// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math"
	"slices"
	"time"
)

// State is all that a gate remembers: plain data that may be stored as JSON and taken up by Resume.
// What it says after a round depends on the rounds and steps before only, so folding them anew gives
// the same State.
type State struct {
	// Config that the numbers were made with.
	Config Config `json:"config"`
	// End of the last round, or the run's start.
	End time.Time `json:"end"`
	// Rehearsed is the end of the last round before the run's start.
	Rehearsed time.Time `json:"rehearsed,omitzero"`
	// Rounds is how many there were.
	Rounds int `json:"rounds"`
	// Lengths of the last rounds, oldest first.
	Lengths []time.Duration `json:"lengths,omitempty"`
	// Idle is the time since the last round in which the canary had requests.
	Idle   time.Duration `json:"idle,omitempty"`
	Canary Counts        `json:"canary"`
	Stable Counts        `json:"stable"`
	// CanaryCustom and StableCustom are the totals of Config.Custom.
	CanaryCustom []Pair `json:"canaryCustom,omitempty"`
	StableCustom []Pair `json:"stableCustom,omitempty"`
	// WarmFrom is when the canary's first requests are a WarmUp ago.
	WarmFrom time.Time        `json:"warmFrom,omitzero"`
	Edges    [2]time.Duration `json:"edges"`
	Step     StepState        `json:"step"`
	// Pending steps began after the last round did.
	Pending  []Step         `json:"pending,omitempty"`
	Starts   Starts         `json:"starts"`
	Measures []MeasureState `json:"measures"`
	Disaster Disaster       `json:"disaster,omitzero"`
	Ranges   []RangeState   `json:"ranges,omitempty"`
}

// StepState is the current step.
type StepState struct {
	Step Step `json:"step"`
	// Number counts steps from 1; 0 before the first.
	Number int `json:"number"`
	// Start is the index in Starts of this step's.
	Start int `json:"start"`
	// Elapsed is the step's time up to the last round. Time without data counts for nothing.
	Elapsed time.Duration `json:"elapsed"`
	// Canary and Stable did this in the step's own rounds.
	Canary Counts `json:"canary"`
	Stable Counts `json:"stable"`
	// Restarts is how many starts were made within the step.
	Restarts int `json:"restarts"`
}

// Starts are the points from which bets are made: the run's start, each later step's, and every five
// minutes of long steps, for faults that show only under load or late.
type Starts struct {
	// Priors by start. Steps and Extras is how many of each kind there were.
	Priors []float64 `json:"priors"`
	Steps  int       `json:"steps"`
	Extras int       `json:"extras"`
	// Slots are the starts of the last extras, oldest first.
	Slots []int `json:"slots,omitempty"`
	// Waiting is the prior of the starts that are still to come: each counts as 1.
	Waiting float64 `json:"waiting"`
}

// MeasureState is one kind of bad request.
type MeasureState struct {
	// Worse and Over are the log evidence that the canary is worse than stable beyond what is
	// tolerated, and that it breaks the objective.
	Worse LogEvidence `json:"worse"`
	Over  LogEvidence `json:"over"`
	// Boundaries at which the revisions are compared; the first is the objective's.
	Boundaries []BoundaryState `json:"boundaries"`
	// Blame and OverBets are the logs of the bets that the canary is worse at all and that it breaks the
	// objective, by start.
	Blame    [][]float64 `json:"blame"`
	OverBets [][]float64 `json:"overBets"`
	// Run and Step speak for the canary, RunWarm and StepWarm without rounds in which it was cold.
	Run      Clearing `json:"run"`
	RunWarm  Clearing `json:"runWarm"`
	Step     Clearing `json:"step"`
	StepWarm Clearing `json:"stepWarm"`
	Past     Past     `json:"past,omitzero"`
}

// BoundaryState compares the revisions at one boundary between good and bad.
type BoundaryState struct {
	// Worse are the logs of the bets by start.
	Worse [][]float64 `json:"worse"`
	// AtLeast are those against higher tolerances, from the run's start and from the step's.
	AtLeast    [2][]float64 `json:"atLeast"`
	Dispersion Dispersion   `json:"dispersion"`
}

// LogEvidence is the log of an e-process.
type LogEvidence struct {
	// Capped grew by no more per round than is allowed; Full is what it would be without.
	Capped float64 `json:"capped"`
	// Late is what was over the cap and may still come.
	Late float64 `json:"late,omitempty"`
	Full float64 `json:"full"`
}

// Clearing has what it takes to rule out any excess of the canary: bets as functions of it.
type Clearing struct {
	Gains [4]float64 `json:"gains"`
	Costs [4]float64 `json:"costs"`
	// Bad and All requests of the canary.
	Bad float64 `json:"bad"`
	All float64 `json:"all"`
}

const (
	// Half of the prior bets from the run's start. Of the rest most is for the planned steps, and a
	// part for starts that nobody planned.
	runPrior   = 0.5
	stepsPrior = 0.4
	extraPrior = 0.1 - glimpsePrior
	// maximumExtras are kept at once; a new one takes the oldest one's place, which counts as lost.
	maximumExtras = 8
	// Steps that last longer than longStep get a start every restartEvery.
	longStep     = 10 * time.Minute
	restartEvery = 5 * time.Minute
)

func newState(config Config, startedAt time.Time) State {
	state := State{
		Config: config, End: startedAt,
		Starts:       Starts{Priors: []float64{runPrior}, Waiting: 1 - runPrior},
		Ranges:       make([]RangeState, len(config.Ranges)),
		CanaryCustom: make([]Pair, len(config.Custom)), StableCustom: make([]Pair, len(config.Custom)),
	}
	for _, measure := range config.measures() {
		s := MeasureState{Boundaries: make([]BoundaryState, len(measure.boundaries))}
		for i := range s.Boundaries {
			s.Boundaries[i].AtLeast = [2][]float64{make([]float64, ladderRungs*ladderBets), make([]float64, ladderRungs*ladderBets)}
		}
		state.Measures = append(state.Measures, s)
	}
	state.place(0)
	return state
}

// copied is a State that shares nothing with this one.
func (state *State) copied() State {
	deep := *state
	deep.Lengths = slices.Clone(state.Lengths)
	deep.Starts.Priors, deep.Starts.Slots = slices.Clone(state.Starts.Priors), slices.Clone(state.Starts.Slots)
	deep.Ranges, deep.Pending = slices.Clone(state.Ranges), slices.Clone(state.Pending)
	deep.CanaryCustom, deep.StableCustom = slices.Clone(state.CanaryCustom), slices.Clone(state.StableCustom)
	deep.Measures = slices.Clone(state.Measures)
	deep.Disaster.Pods = slices.Clone(deep.Disaster.Pods)
	for i := range deep.Measures {
		m := &deep.Measures[i]
		m.Blame, m.OverBets, m.Past = clone2(m.Blame), clone2(m.OverBets), m.Past.copied()
		m.Boundaries = slices.Clone(m.Boundaries)
		for j := range m.Boundaries {
			b := &m.Boundaries[j]
			b.Worse = clone2(b.Worse)
			b.AtLeast = [2][]float64{slices.Clone(b.AtLeast[0]), slices.Clone(b.AtLeast[1])}
		}
	}
	return deep
}

func clone2(rows [][]float64) [][]float64 {
	copied := make([][]float64, len(rows))
	for i, row := range rows {
		copied[i] = slices.Clone(row)
	}
	return copied
}

// remember the length of a round.
func (state *State) remember(length time.Duration) {
	const remembered = 5
	state.Lengths = append(state.Lengths, length)
	state.Lengths = state.Lengths[max(0, len(state.Lengths)-remembered):]
}

// start begins to bet anew, for a step or within one.
func (state *State) start(ofStep bool) {
	starts := &state.Starts
	planned := state.Config.Steps - 1
	prior, index := 0.0, len(starts.Priors)
	if ofStep && starts.Steps < planned {
		starts.Steps++
		prior = stepsPrior / float64(planned)
	} else {
		starts.Extras++
		prior = extraPrior * 6 / (math.Pi * math.Pi * float64(starts.Extras*starts.Extras))
		if len(starts.Slots) == maximumExtras {
			index = starts.Slots[0]
			starts.Slots = slices.Delete(starts.Slots, 0, 1)
		}
		starts.Slots = append(starts.Slots, index)
	}
	starts.Waiting -= prior
	if index == len(starts.Priors) {
		starts.Priors = append(starts.Priors, 0)
	}
	starts.Priors[index] = prior
	state.place(index)
	if ofStep {
		state.Step.Start = index
	}
}

// place puts bets of nothing at a start.
func (state *State) place(index int) {
	put := func(rows [][]float64, bets int) [][]float64 {
		fresh := make([]float64, bets)
		if index == len(rows) {
			return append(rows, fresh)
		}
		rows[index] = fresh
		return rows
	}
	for i, measure := range state.Config.measures() {
		m := &state.Measures[i]
		m.Blame = put(m.Blame, worseBets)
		m.OverBets = put(m.OverBets, len(overRates(measure.budget)))
		for j := range m.Boundaries {
			m.Boundaries[j].Worse = put(m.Boundaries[j].Worse, worseBets)
		}
	}
}

// mixture is the log e-value of bets with equal priors, mixed over starts.
func (starts *Starts) mixture(rows [][]float64, scratch []float64) float64 {
	terms := append(scratch[:0], math.Log(starts.Waiting))
	for i, row := range rows {
		prior := math.Log(starts.Priors[i] / float64(len(row)))
		for _, sum := range row {
			terms = append(terms, prior+sum)
		}
	}
	return logSum(terms)
}

// alone is the log e-value of the bets of one start by itself.
func alone(row []float64) float64 {
	return logSum(row) - math.Log(float64(len(row)))
}

// add what the canary did.
func (c *Clearing) add(seen trial, phi float64) {
	c.Bad += seen.canaryBad / phi
	c.All += seen.canaryAll / phi
}

// compare it with stable, at a share of the canary in all requests.
func (c *Clearing) compare(share float64, seen trial, phi float64) {
	hypothesis := comparison{tolerance: 1}
	for i, alternative := range clearing() {
		gain, cost := hypothesis.parts(alternative.ratio, share, seen)
		c.Gains[i] += gain / phi
		c.Costs[i] += cost / phi
	}
}

// better is the log evidence that the canary's rate is below stable's plus excess.
func (c *Clearing) better(excess float64) float64 {
	var terms [4]float64
	for i, alternative := range clearing() {
		terms[i] = math.Log(alternative.prior) + c.Gains[i] - excess*c.Costs[i]
	}
	return logSum(terms[:])
}

// under is the log evidence that the canary's rate is below the limit.
func (c *Clearing) under(limit float64) float64 {
	limit = math.Min(limit, 0.99)
	var terms [4]float64
	for i, alternative := range clearing() {
		terms[i] = math.Log(alternative.prior) + objectiveIncrement(alternative.ratio*limit, limit, c.Bad, c.All)
	}
	return logSum(terms[:])
}
