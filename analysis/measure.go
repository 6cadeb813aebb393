// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"time"
)

// measure is one kind of bad request.
type measure struct {
	name string
	// objective in words, and the share of bad requests that it leaves.
	objective string
	budget    float64
	// boundaries between good and bad at which canary and stable are compared; the first is the
	// objective's. Without an objective of its own family, breaking it only counts where nothing is compared.
	boundaries []boundary
	custom     bool
	// urgent: a Disaster needs not span Config.EvidenceSpan.
	urgent bool
	// ignoresCold: what the canary did while cold does not fail it.
	ignoresCold bool
}

// boundary tells bad requests from good ones.
type boundary struct {
	// verb says what bad requests did.
	verb string
	// read the bad and all requests of a round.
	read func(Round) trial
	// cold is the part of them that cold pods answered.
	cold func(Round) trial
	// pod reads the bad requests of one pod of stable; nil if they are not known by pod.
	pod func(Counts) uint64
}

// measures are what the configuration asks to look at; errors come first.
func (config Config) measures() []measure {
	objectives := config.Objectives
	errors := func(counts Counts) uint64 { return counts.Errors }
	measures := []measure{{
		name:       "errors",
		objective:  fmt.Sprintf("%s %% success", plain(objectives.SuccessRate)),
		budget:     1 - objectives.SuccessRate/100,
		boundaries: []boundary{counted("failed", errors)},
		urgent:     true,
	}}
	if objectives.LatencyLimit > 0 {
		measures = append(measures, objectives.latency())
	}
	for i, custom := range config.Custom {
		measures = append(measures, measure{
			name:       custom.Name,
			objective:  fmt.Sprintf("%s %% good %s", plain(custom.Objective), custom.Name),
			budget:     1 - custom.Objective/100,
			custom:     true,
			boundaries: []boundary{paired(custom.Name, i)},
		})
	}
	return measures
}

func (objectives Objectives) latency() measure {
	edge := LatencyEdge(objectives.LatencyLimit)
	verb := fmt.Sprintf("took over %v", edge)
	if edge != objectives.LatencyLimit {
		verb += fmt.Sprintf(" (the stricter edge for %v)", objectives.LatencyLimit)
	}
	return measure{
		name:        "latency",
		objective:   fmt.Sprintf("%s %% within %v", plain(objectives.LatencyQuantile*100), objectives.LatencyLimit),
		budget:      1 - objectives.LatencyQuantile,
		ignoresCold: true,
		boundaries: []boundary{
			counted(verb, func(counts Counts) uint64 { return counts.Slow }),
			counted("took over", func(counts Counts) uint64 { return counts.Over[0] }),
			counted("took over", func(counts Counts) uint64 { return counts.Over[1] }),
		},
	}
}

func counted(verb string, bad func(Counts) uint64) boundary {
	read := func(canary, stable Counts) trial {
		return trial{
			canaryBad: float64(min(bad(canary), canary.Requests)), canaryAll: float64(canary.Requests),
			stableBad: float64(min(bad(stable), stable.Requests)), stableAll: float64(stable.Requests),
		}
	}
	return boundary{
		verb: verb, pod: bad,
		read: func(round Round) trial { return read(round.Canary, round.Stable) },
		cold: func(round Round) trial { return read(round.CanaryCold, round.StableCold) },
	}
}

func paired(name string, index int) boundary {
	at := func(pairs []Pair) (bad, all float64) {
		if index >= len(pairs) {
			return 0, 0
		}
		pair := pairs[index]
		return float64(pair.Total - min(pair.Good, pair.Total)), float64(pair.Total)
	}
	return boundary{
		verb: "were bad " + name,
		read: func(round Round) (seen trial) {
			seen.canaryBad, seen.canaryAll = at(round.CanaryCustom)
			seen.stableBad, seen.stableAll = at(round.StableCustom)
			return seen
		},
		cold: func(Round) trial { return trial{} },
	}
}

// tolerated is the hypothesis of a good canary.
func (m measure) tolerated(config Config) comparison {
	return comparison{tolerance: config.Tolerance, margin: m.budget * marginShare}
}

// matters is the excess over stable that would spend the whole budget at the next weight.
func (m measure) matters(step Step) float64 {
	next := step.NextWeight
	if next <= 0 || next > 100 {
		next = 100
	}
	return m.budget / (float64(next) / 100)
}

// over names an edge in words.
func over(edge time.Duration) string {
	return fmt.Sprintf("took over %v", edge)
}
