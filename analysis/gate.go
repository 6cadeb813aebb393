// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math"
	"reflect"
	"slices"
	"time"
)

// Gate folds the rounds of a run, oldest first, and judges its current step. It may be asked after
// every round: the bound on false rollbacks holds however often it is. A Gate is not safe for
// concurrent use.
//
// The evidence that fails a canary is capped per round. What clears it is an error rate that would
// matter at the next weight being ruled out, so busy services leave a step when its hold is over and
// quiet ones stay until they know, or until the step's maximum.
type Gate struct {
	config   Config
	measures []measure
	state    State
	// ahead is the round that is not complete. It is no part of the state.
	ahead Round
	// glimpse came with the last round. It is no part of the state either.
	glimpse *Glimpse
	scratch []float64
}

// Begin makes a Gate for a run that starts.
func Begin(config Config, startedAt time.Time) (*Gate, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &Gate{config: config, measures: config.measures(), state: newState(config, startedAt), scratch: make([]float64, 0, 256)}, nil
}

// Enter says that a step began. It must be called before the rounds that end after its start are
// added. Entering the last step again changes its hold and its next weight, and no more. A step whose
// weight is not acknowledged has not begun.
func (g *Gate) Enter(step Step) {
	if step.StartedAt.IsZero() {
		return
	}
	last := &g.state.Step.Step
	if n := len(g.state.Pending); n > 0 {
		last = &g.state.Pending[n-1]
	}
	if step.StartedAt.Equal(last.StartedAt) && step.Weight == last.Weight {
		*last = step
		return
	}
	g.state.Pending = append(g.state.Pending, step)
}

// Serves says whether the gate was made with a configuration.
func (g *Gate) Serves(config Config) bool { return reflect.DeepEqual(config, g.config) }

// Entered is the step that was entered last, or none.
func (g *Gate) Entered() Step {
	if n := len(g.state.Pending); n > 0 {
		return g.state.Pending[n-1]
	}
	return g.state.Step.Step
}

// Query asks for the rounds that the gate does not have yet.
func (g *Gate) Query(query Query) Query {
	if g.state.Rounds > 0 {
		query.After = g.state.End
	}
	if g.state.Rounds > 0 || !g.state.Rehearsed.IsZero() {
		query.Edges = g.state.Edges
	}
	if len(g.state.Lengths) > 0 {
		query.RoundLength = g.scrape()
	}
	return query
}

// open makes the step current that was in force when the last round ended.
func (g *Gate) open() {
	state := &g.state
	for len(state.Pending) > 0 && !state.Pending[0].StartedAt.After(state.End) {
		step := state.Pending[0]
		state.Pending = state.Pending[1:]
		state.Step = StepState{
			Step: step, Number: state.Step.Number + 1,
			Elapsed: min(state.End.Sub(step.StartedAt), g.patience()),
		}
		if state.Step.Number > 1 {
			state.start(true)
		}
		for i := range state.Measures {
			m := &state.Measures[i]
			m.Step, m.StepWarm = Clearing{}, Clearing{}
			m.Past.end()
			if g.bereft(step) {
				m.Past.begin(g.measures[i].budget, g.config.Tolerance)
			}
			for j := range m.Boundaries {
				clear(m.Boundaries[j].AtLeast[1])
			}
		}
	}
}

// Observe takes a sample of the number that Config.Ranges[index] bounds.
func (g *Gate) Observe(index int, value Value) {
	if index >= 0 && index < len(g.state.Ranges) {
		g.state.Ranges[index] = g.config.Ranges[index].add(g.state.Ranges[index], value)
	}
}

// Sampled is when the number that Config.Ranges[index] bounds was seen last.
func (g *Gate) Sampled(index int) time.Time { return g.state.Ranges[index].LastAt }

// Add folds one round. A round that does not end after the one before is known already. An open one
// stands until the next is added. Rounds that end before the run starts only show how stable's pods differ.
func (g *Gate) Add(round Round) {
	state := &g.state
	length := round.End.Sub(state.End)
	if length <= 0 {
		g.rehearse(round)
		return
	}
	g.glimpse = round.Glimpse
	if round.Open {
		g.ahead = round
		return
	}
	g.ahead = Round{}
	g.open()
	seen := sighting{Round: round, length: length, inStep: g.inStep(round), cold: g.cold(round)}
	if state.Rounds == 0 && state.Edges == [2]time.Duration{} {
		state.Edges = round.Edges
	}
	seen.edges = [2]bool{state.Edges[0] > 0 && round.Edges[0] == state.Edges[0], state.Edges[1] > 0 && round.Edges[1] == state.Edges[1]}
	state.Disaster.add(round)
	for i := range g.measures {
		g.weigh(&g.measures[i], &state.Measures[i], &seen)
	}
	g.count(round, seen.inStep)
}

// rehearse learns from a round that ended before the run's start.
func (g *Gate) rehearse(round Round) {
	state := &g.state
	if state.Rounds > 0 || round.Open || !round.End.After(state.Rehearsed) {
		return
	}
	length := usualScrape
	if !state.Rehearsed.IsZero() {
		length = round.End.Sub(state.Rehearsed)
		state.remember(length)
	}
	state.Rehearsed, state.Edges = round.End, round.Edges
	for i := range g.measures {
		state.Measures[i].Past.see(length, g.measures[i].boundaries[0].read(round))
		for j := range g.measures[i].boundaries {
			g.disperse(&g.measures[i], j, &state.Measures[i].Boundaries[j], &sighting{Round: round, length: length})
		}
	}
}

// sighting is a round with what the fold has to know of it.
type sighting struct {
	Round
	length time.Duration
	// inStep: the round lies wholly in the current step.
	inStep bool
	// cold: the canary's first requests are less than a WarmUp ago.
	cold bool
	// edges says which of the round's Edges can be used.
	edges [2]bool
}

// inStep says whether a round lies wholly in the current step.
func (g *Gate) inStep(round Round) bool {
	next := g.state.Pending
	return g.state.Step.Number > 0 && (len(next) == 0 || !round.End.After(next[0].StartedAt))
}

// cold says whether a round began before the canary was warm.
func (g *Gate) cold(round Round) bool {
	if n := round.Canary.Requests; g.state.WarmFrom.IsZero() && n > 0 {
		// The first of n requests is to be expected after a part of 1/(n+1) of the round.
		first := time.Duration(float64(round.End.Sub(g.state.End)) / (float64(n) + 1))
		g.state.WarmFrom = g.state.End.Add(first + WarmUp)
	}
	return g.stillCold(round)
}

// stillCold: a round is cold that began before the canary was warm, unless its source knows better.
func (g *Gate) stillCold(round Round) bool {
	return !round.ColdKnown && (g.state.WarmFrom.IsZero() || g.state.End.Before(g.state.WarmFrom))
}

// count moves the totals, the step's clock and its starts.
func (g *Gate) count(round Round, inStep bool) {
	state, step := &g.state, &g.state.Step
	length := round.End.Sub(state.End)
	state.remember(length)
	if step.Number > 0 {
		step.Elapsed += min(length, g.patience())
	}
	state.Canary, state.Stable = state.Canary.plus(round.Canary), state.Stable.plus(round.Stable)
	sum(state.CanaryCustom, round.CanaryCustom)
	sum(state.StableCustom, round.StableCustom)
	if inStep {
		step.Canary, step.Stable = step.Canary.plus(round.Canary), step.Stable.plus(round.Stable)
	}
	state.End = round.End
	state.Rounds++
	if state.Idle += length; round.Canary.Requests > 0 {
		state.Idle = 0
	}
	if due := int((step.Elapsed-longStep)/restartEvery) + 1; step.Elapsed >= longStep && step.Restarts < due {
		step.Restarts = due
		state.start(false)
	}
}

func sum(totals, pairs []Pair) {
	for i := range min(len(totals), len(pairs)) {
		totals[i].Total += pairs[i].Total
		totals[i].Good += min(pairs[i].Good, pairs[i].Total)
	}
}

// weigh folds a round into one measure's evidence.
func (g *Gate) weigh(measure *measure, m *MeasureState, seen *sighting) {
	starts := &g.state.Starts
	terms := make([]float64, 0, 3)
	for i := range measure.boundaries {
		if i > 0 && g.state.Edges[i-1] <= 0 {
			continue
		}
		if i == 0 || seen.edges[i-1] {
			g.bet(measure, m, i, seen)
		}
		terms = append(terms, starts.mixture(m.Boundaries[i].Worse, g.scratch))
	}
	worse := logSum(terms) - math.Log(float64(len(terms)))
	broken := starts.mixture(m.OverBets, g.scratch)
	growth := g.growth(g.state.Idle + seen.length)
	m.Over.grow(broken, growth)
	if measure.custom { // one family: worse where it is compared, broken where it is not
		worse = logMean(worse, broken)
	}
	m.Worse.grow(worse, growth)
	if measure.urgent && g.state.Disaster.certain(disasterRounds) {
		m.Worse = LogEvidence{Capped: math.Max(m.Worse.Capped, worse), Full: worse}
	}
}

// bet on a round at one boundary of a measure.
func (g *Gate) bet(measure *measure, m *MeasureState, i int, seen *sighting) {
	b := &m.Boundaries[i]
	all, warm := g.trials(measure, i, seen)
	phi := g.disperse(measure, i, b, seen)
	share, step := g.share(warm, seen.inStep), g.state.Step.Step
	comparable := g.comparable(step)
	if comparable {
		betWorse(b.Worse, measure.tolerated(g.config), share, warm, phi)
		b.climb(measure, share, warm, phi, seen.inStep)
	}
	if i > 0 {
		return
	}
	m.Past.see(seen.length, all)
	if seen.inStep {
		m.Past.bet(warm, phi)
	}
	if comparable {
		betWorse(m.Blame, comparison{tolerance: 1}, share, warm, phi)
	}
	if !measure.custom || !comparable || step.Weight >= 100 {
		betOver(m.OverBets, measure.budget, warm, phi)
	}
	cold := g.share(all, seen.inStep)
	for _, c := range []struct {
		clearing *Clearing
		share    float64
		seen     trial
		counts   bool
	}{{&m.Run, cold, all, true}, {&m.RunWarm, share, warm, true}, {&m.Step, cold, all, seen.inStep}, {&m.StepWarm, share, warm, seen.inStep}} {
		if c.counts {
			c.clearing.add(c.seen, phi)
		}
		if c.counts && comparable {
			c.clearing.compare(c.share, c.seen, phi)
		}
	}
}

// over is the evidence that the canary breaks an objective, with what is known of the open round. Only
// the canary is looked at for that, so it need not wait for all pods.
func (g *Gate) over(i int) float64 {
	m, measure := g.state.Measures[i], &g.measures[i]
	if g.ahead.Canary.Requests == 0 || measure.custom {
		return m.Over.Capped
	}
	seen := sighting{Round: g.ahead, cold: g.stillCold(g.ahead)}
	_, warm := g.trials(measure, 0, &seen)
	bets := clone2(m.OverBets)
	betOver(bets, measure.budget, warm, m.Boundaries[0].Dispersion.factor())
	m.Over.grow(g.state.Starts.mixture(bets, g.scratch), g.growth(g.state.Idle+g.ahead.End.Sub(g.state.End)))
	return m.Over.Capped
}

// trials are what a round says at a boundary, and the part of it that may fail the canary.
func (g *Gate) trials(measure *measure, i int, seen *sighting) (all, warm trial) {
	boundary := measure.boundaries[i]
	all = boundary.read(seen.Round)
	switch {
	case !measure.ignoresCold:
		return all, all
	case seen.cold:
		return all, trial{}
	default:
		return all, all.minus(boundary.cold(seen.Round))
	}
}

// disperse measures how far stable's pods differ and returns what evidence is divided by.
func (g *Gate) disperse(measure *measure, i int, b *BoundaryState, seen *sighting) float64 {
	read := measure.boundaries[i].pod
	if read == nil || len(seen.StablePods) < 2 {
		return b.Dispersion.factor()
	}
	bad, all := make([]float64, len(seen.StablePods)), make([]float64, len(seen.StablePods))
	for j, pod := range seen.StablePods {
		bad[j], all[j] = float64(min(read(pod), pod.Requests)), float64(pod.Requests)
	}
	b.Dispersion.add(seen.length, bad, all)
	return b.Dispersion.factor()
}

// share of the canary in all requests: the round's own, steadied by the step's where that was in force.
func (g *Gate) share(seen trial, inStep bool) float64 {
	pseudo, expected := 0.0, 0.0
	if inStep {
		step := &g.state.Step
		canary, stable := float64(step.Canary.Requests), float64(step.Stable.Requests)
		pseudo = pseudoRequests
		expected = (canary + pseudoRequests*float64(step.Step.Weight)/100) / (canary + stable + pseudoRequests)
	}
	all := seen.canaryAll + seen.stableAll
	if all+pseudo <= 0 {
		return 0
	}
	return math.Min((seen.canaryAll+pseudo*expected)/(all+pseudo), 1)
}

// comparable says whether the two revisions get requests of the same kind in a step.
func (g *Gate) comparable(step Step) bool { return g.config.Compare && !step.Alone }

// bereft says whether stable is to be compared with and has no requests any more.
func (g *Gate) bereft(step Step) bool { return g.comparable(step) && step.Weight >= 100 }

// compared says whether stable is there to compare with in a step; else the objectives alone decide.
func (g *Gate) compared(step Step) bool {
	return g.comparable(step) && step.Weight < 100 && g.state.Stable.Requests > 0
}

// scrape is how long a round usually takes: the median of the last ones.
func (g *Gate) scrape() time.Duration {
	if len(g.state.Lengths) == 0 {
		return usualScrape
	}
	lengths := slices.Clone(g.state.Lengths)
	slices.Sort(lengths)
	return lengths[(len(lengths)-1)/2]
}

// patience is how long the next round may take.
func (g *Gate) patience() time.Duration {
	return max(silentScrapes*g.scrape(), silenceFloor)
}
