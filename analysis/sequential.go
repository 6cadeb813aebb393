// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math"
	"time"
)

// The gate bets against a hypothesis round by round. The product of the bets, an e-process, is 1 at
// the start and has an expectation of at most 1 for as long as the hypothesis holds, so it reaches x
// with a probability of at most 1/x however often one looks (Ville's inequality). The two-sample bet
// is the conditional test of Lindon and Malek (arXiv 2011.03567), extended by a tolerance and a margin.
const (
	// falseRollback bounds the probability that a run of a good canary is rolled back.
	falseRollback = 0.01
	// families share falseRollback: errors and latency, each against stable and against its objective.
	families = 4
	// missedRegression bounds the probability that evidence clears a canary which eats the whole budget.
	missedRegression = 0.05
	// tolerance: a canary may be this many times as bad as stable, so that the spread between pods,
	// cold caches and other small differences never end a run.
	tolerance = 1.5
	// marginShare of the error budget may be added to that, so that a stable without any error does
	// not make the first error of the canary count without bound.
	marginShare = 0.1
	// attribution: a broken objective is the canary's doing when worse than stable is this likely (95 %).
	attribution = 20
	// pseudoRequests at the step's own share steady the shares of rounds with few requests; without
	// them a round of one request says nothing and idle services are blind.
	pseudoRequests = 20
	// evidenceSpan: no shorter stretch of rounds than this may fail a canary, and never less than two
	// rounds, so that no single scrape and no hiccup of one pod rolls back. Simulations liked 15 s; a
	// rollback within seconds of the first bad scrapes needs less.
	evidenceSpan = 5 * time.Second
	// Half of the prior bets from the run's start. The other half is spread over restarts at each step,
	// for faults that show only under load; a Canary has at most maximumSteps.
	runPrior     = 0.5
	maximumSteps = 20
	stepPrior    = (1 - runPrior) / maximumSteps
)

// decisive is the log evidence that fails a canary. What is taken off lets evidence that grew at its
// cap in every round arrive in spite of rounding.
func decisive() float64 {
	const rounding = 1e-9
	return math.Log(families/falseRollback) - rounding
}

// trial is what a round says of one kind of bad request.
type trial struct {
	canaryBad, canaryAll float64
	stableBad, stableAll float64
}

// observation is a trial with what the bets on it need to know.
type observation struct {
	trial
	// share of all requests that the canary had.
	share float64
	// inStep: the round lies wholly in the current step.
	inStep bool
	// growth is the most that log evidence may grow in this round.
	growth float64
}

// comparison is the hypothesis that the canary's rate of bad requests is at most tolerance times
// stable's plus margin. With ratios below 1 the same bets test the reverse: at least that.
type comparison struct {
	tolerance, margin float64
}

// increment is the log of the bet that the canary's odds are ratio times those of the hypothesis.
// Its expectation under the hypothesis does not depend on stable's rate: whatever moves both
// revisions alike is no evidence.
func (hypothesis comparison) increment(ratio, share float64, counts trial) float64 {
	expected := hypothesis.tolerance * share / (hypothesis.tolerance*share + 1 - share)
	quotient := 1 + (ratio-1)*expected
	return counts.canaryBad*math.Log(ratio) -
		(counts.canaryBad+counts.stableBad)*math.Log(quotient) -
		counts.canaryAll*hypothesis.margin*(ratio/quotient-1)
}

// objectiveIncrement is the log of the bet that bad of all requests come at the rate and not at limit.
func objectiveIncrement(rate, limit, bad, all float64) float64 {
	return bad*math.Log(rate/limit) + (all-bad)*math.Log((1-rate)/(1-limit))
}

// bet is one alternative of a mixture.
type bet struct {
	prior     float64
	increment func(observation) float64
}

// betsWorse bet that the canary is worse than the hypothesis allows.
func betsWorse(hypothesis comparison) []bet {
	ratios := []float64{1.25, 1.5, 2, 4, 8, 16, 64, 256}
	bets := make([]bet, 0, len(ratios))
	for _, ratio := range ratios {
		bets = append(bets, bet{1 / float64(len(ratios)), func(round observation) float64 {
			return hypothesis.increment(ratio, round.share, round.trial)
		}})
	}
	return bets
}

// betsOver bet that the canary's own rate is over the limit.
func betsOver(limit float64) []bet {
	const highest = 0.9
	rates := []float64{math.Min(1.5*limit, (1+limit)/2)}
	for rate := 2 * limit; rate < highest; rate *= 2 {
		rates = append(rates, rate)
	}
	if limit < highest {
		rates = append(rates, highest)
	}
	bets := make([]bet, 0, len(rates))
	for _, rate := range rates {
		bets = append(bets, bet{1 / float64(len(rates)), func(round observation) float64 {
			return objectiveIncrement(rate, limit, round.canaryBad, round.canaryAll)
		}})
	}
	return bets
}

type alternative struct{ ratio, prior float64 }

// clearing are the alternatives that clear a canary: how much better than the hypothesis it is.
func clearing() []alternative {
	return []alternative{{0.02, 0.4}, {0.25, 0.3}, {0.5, 0.2}, {0.75, 0.1}}
}

// betsBetter bet that the canary is better than stable plus margin.
func betsBetter(margin float64) []bet {
	hypothesis := comparison{tolerance: 1, margin: margin}
	bets := make([]bet, 0, len(clearing()))
	for _, alternative := range clearing() {
		bets = append(bets, bet{alternative.prior, func(round observation) float64 {
			return hypothesis.increment(alternative.ratio, round.share, round.trial)
		}})
	}
	return bets
}

// betsUnder bet that the canary's own rate is under the limit, for when there is no stable to compare with.
func betsUnder(limit float64) []bet {
	limit = math.Min(limit, 0.99)
	bets := make([]bet, 0, len(clearing()))
	for _, alternative := range clearing() {
		bets = append(bets, bet{alternative.prior, func(round observation) float64 {
			return objectiveIncrement(alternative.ratio*limit, limit, round.canaryBad, round.canaryAll)
		}})
	}
	return bets
}

// evidence is the log of an e-process.
type evidence struct {
	// capped grows by no more per round than the round's growth.
	capped float64
	full   float64
}

// weigh folds rounds into evidence against a hypothesis: a mixture over bets, each made from the
// run's start and anew from the step's. What the other steps' restarts would have bet is left at 1.
func weigh(rounds []observation, bets []bet) evidence {
	fromRun := make([]float64, len(bets))
	fromStep := make([]float64, len(bets))
	terms := make([]float64, 0, 2*len(bets)+1)
	var result evidence
	for _, round := range rounds {
		terms = append(terms[:0], math.Log(1-runPrior-stepPrior))
		for i, bet := range bets {
			increment := bet.increment(round)
			fromRun[i] += increment
			if round.inStep {
				fromStep[i] += increment
			}
			terms = append(terms, math.Log(runPrior*bet.prior)+fromRun[i], math.Log(stepPrior*bet.prior)+fromStep[i])
		}
		before := result.full
		result.full = logSum(terms)
		result.capped += math.Min(result.full-before, round.growth)
	}
	return result
}

// total is the log evidence of a mixture of bets over the rounds, without restarts or cap.
func total(rounds []observation, bets []bet) float64 {
	terms := make([]float64, len(bets))
	for i, bet := range bets {
		terms[i] = math.Log(bet.prior)
		for _, round := range rounds {
			terms[i] += bet.increment(round)
		}
	}
	return logSum(terms)
}

// logMean is the log of the mean of two e-values, which is an e-value again.
func logMean(a, b float64) float64 {
	return logSum([]float64{a - math.Ln2, b - math.Ln2})
}

// logSum is log(sum(exp(terms))) without overflow.
func logSum(terms []float64) float64 {
	highest := math.Inf(-1)
	for _, term := range terms {
		highest = math.Max(highest, term)
	}
	if math.IsInf(highest, 0) {
		return highest
	}
	sum := 0.0
	for _, term := range terms {
		sum += math.Exp(term - highest)
	}
	return highest + math.Log(sum)
}
