// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// explainWorse names how many times worse than stable the canary is at least.
func (h *hearing) explainWorse(measure measure) string {
	atLeast := largest(tolerance, 1_000, func(times float64) bool {
		hypothesis := comparison{tolerance: times, margin: measure.budget * marginShare}
		return weigh(measure.warm, betsWorse(hypothesis)).full >= decisive()
	})
	return fmt.Sprintf("%s at weight %d %%: at least %s times stable, %v times is allowed; %s; %v since the step began",
		h.against(measure), h.step.Weight, number(atLeast), tolerance, falseAlarm(), h.sinceStep())
}

// falseAlarm is what the evidence that fails a canary promises.
func falseAlarm() string {
	return fmt.Sprintf("chance of a false alarm < 1 in %v", families/falseRollback)
}

func (h *hearing) explainBreach(measure measure) string {
	blame := "there is no stable to compare with"
	if h.compared {
		blame = "the canary is worse than stable (95 %)"
	}
	return fmt.Sprintf("%s at weight %d %%: the objective of %s is broken and %s; %s; %v since the step began",
		h.against(measure), h.step.Weight, measure.objective, blame, falseAlarm(), h.sinceStep())
}

func (h *hearing) explainShared(measure measure) string {
	who := "the canary breaks the objective of %s, and is not shown to be worse than stable"
	if float64(measure.bad(h.stable)) > measure.budget*float64(h.stable.Requests) {
		who = "both revisions break the objective of %s; not the canary"
	}
	return fmt.Sprintf(who+": %s", measure.objective, h.against(measure))
}

func (h *hearing) explainSuspicious(measure measure, evidence float64) string {
	return fmt.Sprintf("suspicious: %s; evidence against the canary %s, %v rolls back",
		h.against(measure), number(math.Exp(evidence)), families/falseRollback)
}

func (h *hearing) explainHold(left time.Duration) string {
	return fmt.Sprintf("%s; the step's hold ends in %v", h.against(h.measures[0]), left.Round(time.Second))
}

func (h *hearing) explainWait(measure measure, until time.Time) string {
	return fmt.Sprintf("not enough evidence yet: %s; %s points more than stable not ruled out; waits for requests, until %s",
		h.against(measure), number(measure.matters(h.step)*100), until.UTC().Format(time.RFC3339))
}

func (h *hearing) explainPass(measure measure, prefix string) string {
	next := fmt.Sprintf("%d -> %d %%", h.step.Weight, h.step.NextWeight)
	if h.step.NextWeight <= h.step.Weight {
		next = fmt.Sprintf("at %d %%", h.step.Weight)
	}
	// What is ruled out is the smallest excess for which the canary is cleared.
	kept := largest(0, 1, func(excess float64) bool { return !h.cleared(measure, excess) })
	ruledOut := fmt.Sprintf("more than +%s points ruled out (95 %%)", number(kept*100))
	if !h.compared {
		ruledOut = fmt.Sprintf("more than %s %% ruled out (95 %%)", number((kept+measure.budget)*100))
	}
	if kept >= 0.999 {
		ruledOut = "nothing ruled out"
	}
	return fmt.Sprintf("%s%s: %s; %s", prefix, next, h.against(measure), ruledOut)
}

// against is "31 of 646 requests failed (4.8 %), 11 of 5804 on stable (0.19 %)".
func (h *hearing) against(measure measure) string {
	return fmt.Sprintf("%d of %d requests %s (%s), %d of %d on stable (%s)",
		measure.bad(h.canary), h.canary.Requests, measure.verb, percent(measure.bad(h.canary), h.canary.Requests),
		measure.bad(h.stable), h.stable.Requests, percent(measure.bad(h.stable), h.stable.Requests))
}

func (h *hearing) sinceStep() time.Duration {
	return h.now.Sub(h.step.StartedAt).Round(time.Second)
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

func percent(part, whole uint64) string {
	if whole == 0 {
		return "-"
	}
	return number(100*float64(part)/float64(whole)) + " %"
}

// number prints two significant digits, and all digits before the point.
func number(value float64) string {
	if value >= 10 {
		return strconv.FormatFloat(value, 'f', 0, 64)
	}
	digits := 1
	if value > 0 {
		digits -= int(math.Floor(math.Log10(value)))
	}
	return plain(math.Round(value*math.Pow10(digits)) / math.Pow10(digits))
}

// plain prints what a person wrote, without the noise of binary fractions.
func plain(value float64) string {
	return strconv.FormatFloat(math.Round(value*1e6)/1e6, 'f', -1, 64)
}
