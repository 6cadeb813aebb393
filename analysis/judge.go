// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"
	"time"
)

const (
	// suspicious evidence stops a run from going on, long before it fails it.
	suspicious = 10
	// warmUp after the canary's first request does not fail it for latency: caches and connections
	// are cold. Errors count at once.
	warmUp = 30 * time.Second
	// stepEvidence is what the current step's own rounds must add to what cleared the canary before.
	stepEvidence = 3
	// stepMaximum ends a step with too few requests for full evidence, if it had lowEvidenceRequests.
	stepMaximum         = 10 * time.Minute
	lowEvidenceRequests = 20
	// silentScrapes without a round are a loss of data, and so is silence for silenceFloor where
	// scrapes are quicker than an evaluation.
	silentScrapes = 3
	silenceFloor  = 10 * time.Second
	// usualScrape is assumed while fewer than two rounds show how long one takes.
	usualScrape = 15 * time.Second
)

// measure is one kind of bad request.
type measure struct {
	// verb says what bad requests of this kind did.
	verb string
	// objective in words, and the share of bad requests that it leaves.
	objective string
	budget    float64
	// bad counts them.
	bad func(Counts) uint64
	// ignoresCold: rounds before the warm-up is over do not fail the canary.
	ignoresCold bool
	// rounds clear the canary; those after the warm-up may fail it.
	rounds, warm []observation
	// worse and over are the capped log evidence that the canary is worse than stable beyond what is
	// tolerated, and that it breaks the objective.
	worse, over float64
}

// hearing is everything a judgement rests on.
type hearing struct {
	step     Step
	rounds   []Round
	now      time.Time
	measures []measure
	canary   Counts
	stable   Counts
	// inStep is what the canary did in the step's own rounds.
	inStep Counts
	// compared: stable has requests to compare with; else the objectives alone decide.
	compared bool
}

// Judge folds the rounds of a run, oldest first, into a verdict on its current step. It may be asked
// after every round: the bound on false rollbacks holds however often it is.
//
// The evidence that fails a canary is capped per round. What clears it is an error rate that would
// matter at the next weight being ruled out, so busy services leave a step when its hold is over and
// quiet ones stay until they know, or until the step's maximum.
func Judge(objectives Objectives, step Step, rounds []Round, now time.Time) Judgement {
	judgement := Judgement{Verdict: VerdictHold}
	for _, round := range rounds {
		judgement.Canary = judgement.Canary.plus(round.Canary)
		judgement.Stable = judgement.Stable.plus(round.Stable)
	}
	problem := objectives.problem()
	if step.Weight < 1 || step.Weight > 100 {
		problem = fmt.Sprintf("the step's weight of %d %% is not between 1 and 100", step.Weight)
	}
	if problem != "" {
		judgement.Reason = problem + "; nothing was decided"
		return judgement
	}
	if len(rounds) == 0 {
		judgement.Reason = "no complete round of samples from both revisions yet; nothing was decided"
		return judgement
	}
	h := &hearing{step: step, rounds: rounds, now: now, canary: judgement.Canary, stable: judgement.Stable}
	h.hear(objectives)
	for _, rule := range []func() (Verdict, string){h.fails, h.holds, h.passes} {
		if verdict, reason := rule(); verdict != "" {
			judgement.Verdict, judgement.Reason = verdict, reason
			break
		}
	}
	return judgement
}

func (objectives Objectives) problem() string {
	switch {
	case !(objectives.SuccessRate > 0 && objectives.SuccessRate < 100):
		return fmt.Sprintf("the success rate %v is no percentage above 0 and below 100", objectives.SuccessRate)
	case objectives.LatencyLimit < 0:
		return fmt.Sprintf("the latency limit %v is negative", objectives.LatencyLimit)
	case objectives.LatencyLimit > 0 && LatencyEdge(objectives.LatencyLimit) == 0:
		return fmt.Sprintf("the latency limit %v is below the lowest bucket edge of 1ms", objectives.LatencyLimit)
	case objectives.LatencyLimit > 0 && !(objectives.LatencyQuantile > 0 && objectives.LatencyQuantile < 1):
		return fmt.Sprintf("the latency quantile %v is not above 0 and below 1", objectives.LatencyQuantile)
	}
	return ""
}

// hear sorts the rounds into what each measure needs.
func (h *hearing) hear(objectives Objectives) {
	for i, round := range h.rounds {
		if h.inStepAt(i) {
			h.inStep = h.inStep.plus(round.Canary)
		}
	}
	h.compared = h.step.Weight < 100 && h.stable.Requests > 0
	h.measures = objectives.measures()
	for i := range h.measures {
		measure := &h.measures[i]
		measure.rounds = h.observations(measure.bad)
		measure.warm = measure.rounds
		if measure.ignoresCold {
			measure.warm = measure.rounds[h.coldRounds():]
		}
		against := measure.warm
		if h.compared {
			measure.worse = weigh(against, betsWorse(measure.tolerated())).capped
		} else {
			// Only what the canary did since the step began speaks against it: before, it was compared.
			against = stepOf(against)
		}
		measure.over = weigh(against, betsOver(measure.budget)).capped
	}
}

// measures are what the objectives ask to look at; errors come first.
func (objectives Objectives) measures() []measure {
	measures := []measure{{
		verb:      "failed",
		objective: fmt.Sprintf("%s %% success", plain(objectives.SuccessRate)),
		budget:    1 - objectives.SuccessRate/100,
		bad:       func(counts Counts) uint64 { return counts.Errors },
	}}
	if objectives.LatencyLimit <= 0 {
		return measures
	}
	edge := LatencyEdge(objectives.LatencyLimit)
	verb := fmt.Sprintf("took over %v", edge)
	if edge != objectives.LatencyLimit {
		verb += fmt.Sprintf(" (the stricter edge for %v)", objectives.LatencyLimit)
	}
	return append(measures, measure{
		verb:        verb,
		objective:   fmt.Sprintf("%s %% within %v", plain(objectives.LatencyQuantile*100), objectives.LatencyLimit),
		budget:      1 - objectives.LatencyQuantile,
		bad:         func(counts Counts) uint64 { return counts.Slow },
		ignoresCold: true,
	})
}

// observations are the rounds seen by one measure.
func (h *hearing) observations(bad func(Counts) uint64) []observation {
	observations := make([]observation, 0, len(h.rounds))
	weight := float64(h.step.Weight) / 100
	var canary, stable float64 // in the step, before the round
	for i, round := range h.rounds {
		seen := observation{
			trial: trial{
				canaryBad: float64(min(bad(round.Canary), round.Canary.Requests)),
				canaryAll: float64(round.Canary.Requests),
				stableBad: float64(min(bad(round.Stable), round.Stable.Requests)),
				stableAll: float64(round.Stable.Requests),
			},
			growth: decisive() / 2,
		}
		// A round that began before the step's weight was in force says what it says with its own
		// share; the weights of earlier steps are not known here.
		pseudo, expected := 0.0, 0.0
		if i > 0 {
			length := round.End.Sub(h.rounds[i-1].End)
			seen.growth *= math.Min(1, 2*length.Seconds()/evidenceSpan.Seconds())
		}
		if h.inStepAt(i) {
			seen.inStep = true
			pseudo = pseudoRequests
			expected = (canary + pseudoRequests*weight) / (canary + stable + pseudoRequests)
			canary += seen.canaryAll
			stable += seen.stableAll
		}
		if all := seen.canaryAll + seen.stableAll; all > 0 {
			seen.share = (seen.canaryAll + pseudo*expected) / (all + pseudo)
		}
		observations = append(observations, seen)
	}
	return observations
}

// inStepAt says whether a round began at the step's weight. Where the first one began is not known.
func (h *hearing) inStepAt(i int) bool {
	return i > 0 && !h.rounds[i-1].End.Before(h.step.StartedAt)
}

// coldRounds is how many rounds began before the warm-up was over.
func (h *hearing) coldRounds() int {
	var warm time.Time
	for i, round := range h.rounds {
		switch {
		case warm.IsZero() && round.Canary.Requests > 0:
			warm = round.End.Add(warmUp)
		case !warm.IsZero() && !h.rounds[i-1].End.Before(warm):
			return i
		}
	}
	return len(h.rounds)
}

// fails says whether the canary is to blame for something that must not go on.
func (h *hearing) fails() (Verdict, string) {
	for _, measure := range h.measures {
		if measure.worse >= decisive() {
			return VerdictFail, h.explainWorse(measure)
		}
		if measure.over >= decisive() && (!h.compared || h.blamed(measure)) {
			return VerdictFail, h.explainBreach(measure)
		}
	}
	return "", ""
}

// holds says whether something speaks against going on that is no failure.
func (h *hearing) holds() (Verdict, string) {
	for _, measure := range h.measures {
		if measure.over >= decisive() {
			return VerdictHold, h.explainShared(measure)
		}
	}
	for _, measure := range h.measures {
		if evidence := max(measure.over, measure.worse); evidence >= math.Log(suspicious) {
			return VerdictHold, h.explainSuspicious(measure, evidence)
		}
	}
	if silent := h.now.Sub(h.rounds[len(h.rounds)-1].End); silent > h.patience() {
		return VerdictHold, fmt.Sprintf("no complete round of samples for %v; nothing was decided", silent.Round(time.Second))
	}
	if since := h.now.Sub(h.step.StartedAt); !h.step.StartedAt.IsZero() && h.inStep.Requests == 0 && since > max(silenceFloor, h.patience()) {
		return VerdictHold, fmt.Sprintf("the canary answered no request in the %v since weight %d %%; nothing was decided",
			since.Round(time.Second), h.step.Weight)
	}
	return "", ""
}

// passes says whether the step may be left, or else what it waits for. It is the last rule.
func (h *hearing) passes() (Verdict, string) {
	if h.step.StartedAt.IsZero() {
		return VerdictWait, "the proxies have not acknowledged the step's weight yet"
	}
	since := h.now.Sub(h.step.StartedAt)
	if since < h.step.Hold {
		return VerdictWait, h.explainHold(h.step.Hold - since)
	}
	for _, measure := range h.measures {
		if h.cleared(measure, measure.matters(h.step)) {
			continue
		}
		maximum := max(stepMaximum, h.step.Hold)
		if since >= maximum && h.inStep.Requests >= lowEvidenceRequests {
			return VerdictPass, h.explainPass(measure, "low evidence, ")
		}
		return VerdictWait, h.explainWait(measure, h.step.StartedAt.Add(maximum))
	}
	return VerdictPass, h.explainPass(h.measures[0], "")
}

// tolerated is the hypothesis of a good canary.
func (m measure) tolerated() comparison {
	return comparison{tolerance: tolerance, margin: m.budget * marginShare}
}

// matters is the excess over stable that would spend the whole budget at the next weight.
func (m measure) matters(step Step) float64 {
	next := step.NextWeight
	if next <= 0 || next > 100 {
		next = 100
	}
	return m.budget / (float64(next) / 100)
}

// blamed: with 95 % certainty the canary is worse than stable.
func (h *hearing) blamed(measure measure) bool {
	return weigh(measure.warm, betsWorse(comparison{tolerance: 1})).full >= math.Log(attribution)
}

// cleared says whether an excess of the canary over stable is ruled out, by all rounds and with
// some of it from this step's. Cold rounds count, but the warm ones are enough.
func (h *hearing) cleared(measure measure, excess float64) bool {
	bets := betsBetter(excess)
	if !h.compared {
		bets = betsUnder(measure.budget + excess)
	}
	inStep := logMean(total(stepOf(measure.rounds), bets), total(stepOf(measure.warm), bets))
	if !h.compared {
		return inStep >= math.Log(1/missedRegression)
	}
	all := logMean(total(measure.rounds, bets), total(measure.warm, bets))
	return all >= math.Log(1/missedRegression) && inStep >= math.Log(stepEvidence)
}

// patience is how long the next round may take.
func (h *hearing) patience() time.Duration {
	length := usualScrape
	if n := len(h.rounds); n > 1 {
		length = h.rounds[n-1].End.Sub(h.rounds[n-2].End)
	}
	return max(silentScrapes*length, silenceFloor)
}

func stepOf(rounds []observation) []observation {
	for i, round := range rounds {
		if round.inStep {
			return rounds[i:]
		}
	}
	return nil
}

func (counts Counts) plus(more Counts) Counts {
	return Counts{
		Requests: counts.Requests + more.Requests,
		Errors:   counts.Errors + more.Errors,
		Slow:     counts.Slow + more.Slow,
	}
}
