// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math"
	"time"
)

func (e *LogEvidence) grow(full float64, most allowance) {
	wanted := full - e.Full + e.Late
	granted := math.Min(wanted, most.now)
	e.Capped += granted
	e.Late = math.Min(wanted-granted, most.late)
	e.Full = full
}

// allowance is the most that log evidence may grow in one round, and the most of what is over that may
// come with the rounds after it.
type allowance struct{ now, late float64 }

// growth is the most that log evidence may grow in a round of the given length, or of the usual length
// if that is longer: the first round of a run ends when it happens to. Rounds in which the canary had no
// requests lengthen the next: else rounds of a second would make a service that has few wait for many.
func (g *Gate) growth(length time.Duration) allowance {
	part := 0.5
	if len(g.state.Lengths) > 0 {
		length = max(length, g.scrape())
	}
	if span := g.config.EvidenceSpan; span > 0 {
		part = math.Min(part, length.Seconds()/span.Seconds())
	}
	part = math.Max(part, 0)
	// The single failures of short rounds are each worth more than one may grow, while the rounds without
	// any take off in full: without a little that comes late, many quick rounds would see less than a few slow
	// ones. Rounds of half a span have nothing to make up for.
	return allowance{now: g.config.decisive() * part, late: g.config.decisive() * lateShare * (1 - 2*part)}
}
