// SPDX-License-Identifier: Apache-2.0

package backtest

import (
	"math"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/simulation"
)

// release is one canary over rounds that were recorded. It is no other than stable, unless spoilt.
type release struct {
	plan     simulation.Plan
	rounds   []analysis.Round
	start    time.Time
	end      time.Time
	interval time.Duration
	// byPod: the rounds know which requests are the canary's. Else each request is drawn.
	byPod  bool
	defect Defect
	random simulation.Sampler

	// natural is the canary's share of what its pods got.
	natural float64
	// weights since when, by step.
	weights []float64
	since   []time.Time
	bad     uint64
}

// play the release to its end or to that of the recording.
func (r *release) play() (simulation.Outcome, error) {
	run, err := r.plan.Begin(r.start)
	if err != nil {
		return simulation.Outcome{}, err
	}
	r.natural = naturalShare(r.rounds)
	r.shift(run.Weight(), r.start)
	next := 0
	for now := r.start.Add(r.interval); !now.After(r.end); now = now.Add(r.interval) {
		for ; next < len(r.rounds) && !r.rounds[next].End.After(now); next++ {
			run.Add(r.round(next))
		}
		switch run.Look(now) {
		case simulation.Promote:
			return r.ended(run, now, simulation.Outcome{Promoted: true}), nil
		case simulation.RollBack:
			return r.ended(run, now, simulation.Outcome{RolledBack: true}), nil
		case simulation.Next:
			r.shift(run.Weight(), now)
		case simulation.Stay:
		}
	}
	return r.ended(run, r.end, simulation.Outcome{}), nil
}

func (r *release) shift(weight float64, now time.Time) {
	r.weights, r.since = append(r.weights, weight), append(r.since, now)
}

func (r *release) ended(run *simulation.Run, now time.Time, outcome simulation.Outcome) simulation.Outcome {
	outcome.Took, outcome.Bad = now.Sub(r.start).Seconds(), float64(r.bad)
	outcome.Low, outcome.Reason = outcome.Promoted && run.Low(), run.Judgement().Reason
	for _, since := range r.since[1:] {
		outcome.Left = append(outcome.Left, since.Sub(r.start).Seconds())
	}
	if outcome.Promoted {
		outcome.Left = append(outcome.Left, outcome.Took)
	}
	return outcome
}

// naturalShare of the canary's pods in all requests.
func naturalShare(rounds []analysis.Round) float64 {
	var canary, all float64
	for _, round := range rounds {
		if round.Canary.Requests > 0 {
			canary += float64(round.Canary.Requests)
			all += float64(round.Canary.Requests + round.Stable.Requests)
		}
	}
	if all == 0 {
		return 0.5
	}
	return canary / all
}

// round as it would have been at the weights that were in force in it.
func (r *release) round(i int) analysis.Round {
	round := r.rounds[i]
	if !round.End.After(r.start) {
		return round
	}
	began := r.start
	if i > 0 && r.rounds[i-1].End.After(began) {
		began = r.rounds[i-1].End
	}
	weight := r.mean(began, round.End)
	keepCanary, keepStable := r.chances(weight)
	if !r.byPod {
		cold := round.StableCold
		round.CanaryCold = draw(cold, weight, r.random)
		round.Canary = plus(round.CanaryCold, draw(minus(round.Stable, cold), weight, r.random))
		round.Stable, round.StableCold = minus(round.Stable, round.Canary), minus(cold, round.CanaryCold)
	} else {
		round.Canary, round.CanaryCold = r.thin(round.Canary, round.CanaryCold, keepCanary)
		round.Stable, round.StableCold = r.thin(round.Stable, round.StableCold, keepStable)
	}
	if d := r.defect; round.End.Sub(r.start).Seconds() > d.Onset && weight >= d.OnsetWeight-1e-9 {
		round.Canary = d.spoil(round.Canary, r.random)
	}
	r.bad += round.Canary.Errors
	if r.defect.Slow > 0 {
		r.bad += round.Canary.Slow
	}
	return round
}

// thin keeps each request with a chance, those of cold pods apart.
func (r *release) thin(counts, cold analysis.Counts, chance float64) (kept, keptCold analysis.Counts) {
	keptCold = draw(cold, chance, r.random)
	return plus(keptCold, draw(minus(counts, cold), chance, r.random)), keptCold
}

// chances with which requests of the canary's and of stable's pods are kept, for the canary to have its
// weight. Those of one are all kept.
func (r *release) chances(weight float64) (ofCanary, ofStable float64) {
	ratio := weight * (1 - r.natural) / ((1 - weight) * r.natural)
	switch {
	case weight >= 1 || r.natural <= 0:
		return 1, 0
	case r.natural >= 1:
		return 0, 1
	}
	return math.Min(1, ratio), math.Min(1, 1/ratio)
}

// mean weight between two times.
func (r *release) mean(from, to time.Time) float64 {
	sum := 0.0
	for i, weight := range r.weights {
		begins, ends := r.since[i], to
		if i+1 < len(r.since) && r.since[i+1].Before(to) {
			ends = r.since[i+1]
		}
		if begins.Before(from) {
			begins = from
		}
		if length := ends.Sub(begins); length > 0 {
			sum += weight * length.Seconds()
		}
	}
	return sum / to.Sub(from).Seconds()
}
