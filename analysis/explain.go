// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

const (
	ladderRungs = 12
	ladderBets  = 3
)

// ladder are the tolerances for which the bets are kept that say how many times worse than stable a
// canary is at least, and ladderRatios their alternatives.
func ladder() [ladderRungs]float64      { return [...]float64{2, 3, 4, 5, 7, 9, 13, 20, 30, 50, 100, 300} }
func ladderRatios() [ladderBets]float64 { return [...]float64{2, 8, 64} }

// climb bets against higher and higher tolerances.
func (b *BoundaryState) climb(measure *measure, share float64, seen trial, phi float64, inStep bool) {
	if seen.canaryAll == 0 {
		return
	}
	i := 0
	for _, tolerance := range ladder() {
		hypothesis := comparison{tolerance: tolerance, margin: measure.budget * marginShare}
		for _, ratio := range ladderRatios() {
			increment := hypothesis.increment(ratio, share, seen) / phi
			b.AtLeast[0][i] += increment
			if inStep {
				b.AtLeast[1][i] += increment
			}
			i++
		}
	}
}

// atLeast is the highest tolerance that is refuted, or 0.
func (b *BoundaryState) atLeast(decisive float64) float64 {
	highest, n := 0.0, ladderBets
	for i, tolerance := range ladder() {
		evidence := logMean(alone(b.AtLeast[0][i*n:(i+1)*n]), alone(b.AtLeast[1][i*n:(i+1)*n]))
		if evidence >= decisive {
			highest = tolerance
		}
	}
	return highest
}

// worst is the boundary at which most speaks against the canary.
func (h *hearing) worst(i int) int {
	worst, most := 0, math.Inf(-1)
	for j := range h.state.Measures[i].Boundaries {
		if j > 0 && h.state.Edges[j-1] <= 0 {
			continue
		}
		if evidence := h.state.Starts.mixture(h.state.Measures[i].Boundaries[j].Worse, nil); evidence > most {
			worst, most = j, evidence
		}
	}
	return worst
}

// explainWorse names how many times worse than stable the canary is at least.
func (h *hearing) explainWorse(i int) string {
	worst := h.worst(i)
	allowed := plain(h.config.Tolerance) + " times is allowed"
	atLeast := max(h.config.Tolerance, h.state.Measures[i].Boundaries[worst].atLeast(h.config.decisive()))
	much := "at least " + number(atLeast) + " times stable, " + allowed
	if atLeast == h.config.Tolerance {
		much = "worse than stable, " + allowed
	}
	return fmt.Sprintf("%s at weight %d %%: %s; %s; %v since the step began",
		h.against(i, worst), h.step.Step.Weight, much, h.falseAlarm(), h.sinceStep())
}

// explainGlimpse says what was seen between two scrapes.
func (h *hearing) explainGlimpse() string {
	seen := h.glimpse.trial()
	return fmt.Sprintf("%s of %s requests failed (%s) between two scrapes of the canary's pods, %s of %s (%s) on stable, read after it, at weight %d %%; %s; %v since the step began",
		plain(seen.canaryBad), plain(seen.canaryAll), percent(seen.canaryBad, seen.canaryAll),
		plain(seen.stableBad), plain(seen.stableAll), percent(seen.stableBad, seen.stableAll),
		h.step.Step.Weight, h.falseAlarm(), h.sinceStep())
}

// falseAlarm is what the evidence that fails a canary promises.
func (h *hearing) falseAlarm() string {
	return fmt.Sprintf("chance of a false alarm < 1 in %s", number(h.config.families()/h.config.FalseRollback))
}

func (h *hearing) explainBreach(i int) string {
	blame := "there is no stable to compare with"
	switch past := h.state.Measures[i].Past; {
	case h.compared:
		blame = "the canary is worse than stable (95 %)"
	case past.Worst > 0 && h.bereft(h.step.Step):
		blame = fmt.Sprintf("the canary is worse than stable was in its worst minute (%s, 95 %%)", percent(past.Worst, 1))
	}
	return fmt.Sprintf("%s at weight %d %%: the objective of %s is broken and %s; %s; %v since the step began",
		h.against(i, 0), h.step.Step.Weight, h.measures[i].objective, blame, h.falseAlarm(), h.sinceStep())
}

func (h *hearing) explainShared(i int) string {
	who := "the canary breaks the objective of %s, and is not shown to be worse than stable"
	if stable := h.totals(i, 0); stable.stableBad > h.measures[i].budget*stable.stableAll {
		who = "both revisions break the objective of %s; not the canary"
	}
	return fmt.Sprintf(who+": %s", h.measures[i].objective, h.against(i, 0))
}

func (h *hearing) explainSuspicious(i int, evidence float64) string {
	return fmt.Sprintf("suspicious: %s; evidence against the canary %s, %s rolls back",
		h.against(i, h.worst(i)), number(math.Exp(evidence)), number(h.config.families()/h.config.FalseRollback))
}

func (h *hearing) explainClock(left time.Duration) string {
	return fmt.Sprintf("%s; the step's hold ends in %v", h.against(0, 0), left.Round(time.Second))
}

func (h *hearing) explainWait(i int, left time.Duration) string {
	until := "until " + h.now.Add(left).UTC().Format(time.RFC3339)
	if left <= 0 {
		until = fmt.Sprintf("%d of the %d that the step needs at least", h.step.Canary.Requests, lowEvidenceRequests)
	}
	return fmt.Sprintf("not enough evidence yet: %s; %s points more than stable not ruled out; waits for requests, %s",
		h.against(i, 0), number(h.measures[i].matters(h.step.Step)*100), until)
}

func (h *hearing) explainDeadline(i int, wait string) string {
	if wait == "" {
		wait = fmt.Sprintf("%s; %s points more than stable not ruled out", h.against(i, 0), number(h.measures[i].matters(h.step.Step)*100))
	}
	what := map[Policy]string{PolicyAdvance: "it is left", PolicyHold: "it goes on", PolicyRollback: "it is rolled back"}
	return fmt.Sprintf("inconclusive at the step's deadline, %s: %s; %d requests in the step, %d are needed at least",
		what[h.config.OnInconclusive], wait, h.step.Canary.Requests, lowEvidenceRequests)
}

func (h *hearing) explainPass(i int, prefix string) string {
	step := h.step.Step
	next := fmt.Sprintf("%d -> %d %%", step.Weight, step.NextWeight)
	if step.NextWeight <= step.Weight {
		next = fmt.Sprintf("at %d %%", step.Weight)
	}
	// What is ruled out is the smallest excess for which the canary is cleared.
	kept := largest(0, 1, func(excess float64) bool { return !h.cleared(i, excess) })
	ruledOut := fmt.Sprintf("more than +%s points ruled out (%s)", number(kept*100), h.confidence())
	if !h.compared {
		ruledOut = fmt.Sprintf("more than %s %% ruled out (%s)", number((kept+h.measures[i].budget)*100), h.confidence())
	}
	if kept >= 0.999 {
		ruledOut = "nothing ruled out"
	}
	return fmt.Sprintf("%s%s: %s; %s", prefix, next, h.against(i, 0), ruledOut)
}

// confidence in what is ruled out.
func (h *hearing) confidence() string {
	return plain(100*(1-h.config.MissedRegression)) + " %"
}

// against is "31 of 646 requests failed (4.8 %), 11 of 5804 on stable (0.19 %)".
func (h *hearing) against(i, j int) string {
	seen := h.totals(i, j)
	verb := h.measures[i].boundaries[j].verb
	if j > 0 {
		verb = over(h.state.Edges[j-1])
	}
	noun := "requests "
	if h.measures[i].custom {
		noun = ""
	}
	return fmt.Sprintf("%s of %s %s%s (%s), %s of %s on stable (%s)",
		plain(seen.canaryBad), plain(seen.canaryAll), noun, verb, percent(seen.canaryBad, seen.canaryAll),
		plain(seen.stableBad), plain(seen.stableAll), percent(seen.stableBad, seen.stableAll))
}

// totals of a boundary since the run's start.
func (h *hearing) totals(i, j int) trial {
	return h.measures[i].boundaries[j].read(Round{
		Canary: h.state.Canary, Stable: h.state.Stable, CanaryCustom: h.state.CanaryCustom, StableCustom: h.state.StableCustom,
	})
}

func (h *hearing) sinceStep() time.Duration {
	return h.now.Sub(h.step.Step.StartedAt).Round(time.Second)
}

// largest is the largest value between low and high for which holds is true, given that it is true
// up to there and false beyond.
func largest(low, high float64, holds func(float64) bool) float64 {
	const halvings = 20
	for range halvings {
		if middle := (low + high) / 2; holds(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

func percent(part, whole float64) string {
	if whole == 0 {
		return "-"
	}
	return number(100*part/whole) + " %"
}

// number prints two significant digits, and all digits before the point.
func number(value float64) string {
	if math.Abs(value) >= 10 || value == 0 {
		return strconv.FormatFloat(value, 'f', 0, 64)
	}
	digits := 1 - int(math.Floor(math.Log10(math.Abs(value))))
	return plain(math.Round(value*math.Pow10(digits)) / math.Pow10(digits))
}

// plain prints what a person wrote, without the noise of binary fractions.
func plain(value float64) string {
	return strconv.FormatFloat(math.Round(value*1e6)/1e6, 'f', -1, 64)
}
