// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math"
	"slices"
	"time"
)

// Past is how bad stable was at its worst, for the steps in which it has no requests any more: what
// wanders, or is near its objective, breaks it now and then by itself, and there is nobody left to
// compare with. There a canary is to blame only when it is worse than stable was in its worst minute.
type Past struct {
	// Bad and All requests of stable in the stretch that is under way, and how long that is.
	Bad    float64       `json:"bad,omitempty"`
	All    float64       `json:"all,omitempty"`
	Length time.Duration `json:"length,omitempty"`
	// Worst is stable's highest share of bad requests in a stretch.
	Worst float64 `json:"worst,omitempty"`
	// Limit is the share that the canary must be above in the step, and Bets the logs of the bets that it is.
	Limit float64   `json:"limit,omitempty"`
	Bets  []float64 `json:"bets,omitempty"`
}

const (
	// A stretch is no shorter, in time and in requests: few requests have high shares by chance.
	stretchLength   = time.Minute
	stretchRequests = 100
	// outageTimes the objective's budget is the most that stable's worst excuses: what fails that much is
	// taken back although stable, in an outage, was once as bad.
	outageTimes = 10
)

// see what stable did in a round.
func (p *Past) see(length time.Duration, seen trial) {
	p.Bad += seen.stableBad
	p.All += seen.stableAll
	p.Length += length
	if p.Length >= stretchLength && p.All >= stretchRequests {
		p.Worst = math.Max(p.Worst, p.Bad/p.All)
		p.Bad, p.All, p.Length = 0, 0, 0
	}
}

// begin a step without stable.
func (p *Past) begin(budget, tolerance float64) {
	const highest = 0.9
	excused := math.Min(tolerance*p.Worst, math.Min(outageTimes*budget, highest))
	p.Limit = math.Max(budget, excused)
	p.Bets = make([]float64, len(overRates(p.Limit)))
}

// end the step.
func (p *Past) end() { p.Limit, p.Bets = 0, nil }

// bet on a round of the step.
func (p *Past) bet(seen trial, phi float64) {
	if p.Limit > 0 {
		betOver([][]float64{p.Bets}, p.Limit, seen, phi)
	}
}

// worse is the log evidence that the canary is worse than stable was.
func (p *Past) worse() float64 { return alone(p.Bets) }

func (p *Past) consistent() bool {
	return p.Limit == 0 && len(p.Bets) == 0 || p.Limit > 0 && len(p.Bets) == len(overRates(p.Limit))
}

func (p *Past) copied() Past {
	deep := *p
	deep.Bets = slices.Clone(p.Bets)
	return deep
}
