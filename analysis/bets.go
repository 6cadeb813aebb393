// SPDX-License-Identifier: Apache-2.0

package analysis

import "math"

// The gate bets against a hypothesis round by round. The product of the bets, an e-process, is 1 at
// the start and has an expectation of at most 1 for as long as the hypothesis holds, so it reaches x
// with a probability of at most 1/x however often one looks (Ville's inequality). The two-sample bet
// is the conditional test of Lindon and Malek (arXiv 2011.03567), extended by a tolerance and a margin.

// trial is what a round says of one kind of bad request.
type trial struct {
	canaryBad, canaryAll float64
	stableBad, stableAll float64
}

func (t trial) minus(part trial) trial {
	return trial{
		math.Max(0, t.canaryBad-part.canaryBad), math.Max(0, t.canaryAll-part.canaryAll),
		math.Max(0, t.stableBad-part.stableBad), math.Max(0, t.stableAll-part.stableAll),
	}
}

// comparison is the hypothesis that the canary's rate of bad requests is at most tolerance times
// stable's plus margin. With ratios below 1 the same bets test the reverse: at least that.
type comparison struct {
	tolerance, margin float64
}

// gain and cost are the two parts of the log of the bet that the canary's odds are ratio times those
// of the hypothesis; the margin only scales the cost. The expectation of the bet under the hypothesis
// does not depend on stable's rate: whatever moves both revisions alike is no evidence.
func (hypothesis comparison) parts(ratio, share float64, counts trial) (gain, cost float64) {
	expected := hypothesis.tolerance * share / (hypothesis.tolerance*share + 1 - share)
	quotient := 1 + (ratio-1)*expected
	gain = counts.canaryBad*math.Log(ratio) - (counts.canaryBad+counts.stableBad)*math.Log(quotient)
	return gain, counts.canaryAll * (ratio/quotient - 1)
}

// increment is the log of that bet.
func (hypothesis comparison) increment(ratio, share float64, counts trial) float64 {
	gain, cost := hypothesis.parts(ratio, share, counts)
	return gain - hypothesis.margin*cost
}

// objectiveIncrement is the log of the bet that bad of all requests come at the rate and not at limit.
func objectiveIncrement(rate, limit, bad, all float64) float64 {
	return bad*math.Log(rate/limit) + (all-bad)*math.Log((1-rate)/(1-limit))
}

// worseBets is how many alternatives there are.
const worseBets = 8

// worseRatios are the alternatives that speak against a canary, with equal priors.
func worseRatios() [worseBets]float64 { return [...]float64{1.25, 1.5, 2, 4, 8, 16, 64, 256} }

// overRates are the alternatives that say that an objective is broken, with equal priors.
func overRates(limit float64) []float64 {
	const highest = 0.9
	rates := []float64{math.Min(1.5*limit, (1+limit)/2)}
	for rate := 2 * limit; rate < highest; rate *= 2 {
		rates = append(rates, rate)
	}
	if limit < highest {
		rates = append(rates, highest)
	}
	return rates
}

type alternative struct{ ratio, prior float64 }

// clearing are the alternatives that clear a canary: how much better than the hypothesis it is.
func clearing() [4]alternative {
	return [...]alternative{{0.02, 0.4}, {0.25, 0.3}, {0.5, 0.2}, {0.75, 0.1}}
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
		if distance := term - highest; distance > -50 { // what is less does not show in the sum
			sum += math.Exp(distance)
		}
	}
	return highest + math.Log(sum)
}

// logMean is the log of the mean of two e-values, which is an e-value again.
func logMean(a, b float64) float64 {
	terms := [2]float64{a - math.Ln2, b - math.Ln2}
	return logSum(terms[:])
}

// betWorse bets on a round from every start.
func betWorse(rows [][]float64, hypothesis comparison, share float64, seen trial, phi float64) {
	for j, ratio := range worseRatios() {
		increment := hypothesis.increment(ratio, share, seen) / phi
		for i := range rows {
			rows[i][j] += increment
		}
	}
}

func betOver(rows [][]float64, limit float64, seen trial, phi float64) {
	for j, rate := range overRates(limit) {
		increment := objectiveIncrement(rate, limit, seen.canaryBad, seen.canaryAll) / phi
		for i := range rows {
			rows[i][j] += increment
		}
	}
}
