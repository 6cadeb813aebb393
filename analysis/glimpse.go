// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math"
	"slices"
	"time"
)

// Scrape is what one pod counted between two scrapes.
type Scrape struct {
	Pod      string
	Canary   bool
	From, At time.Time
	Counts   Counts
}

// Glimpse is what the pods counted between their last two scrapes: the canary's, and stable's as it was read
// after them. It shows a disaster a round or more before complete rounds do.
//
// What fails both revisions for a while began before the canary's pods were read, so whoever of stable is read
// later has seen it, too.
type Glimpse struct {
	CanaryPods, StablePods []Counts
}

const (
	// glimpseSpan is the least time between the canary's two scrapes: where rounds are shorter, two of them
	// take no longer and are better proof against a moment's hiccup.
	glimpseSpan = 2 * time.Second
	// GlimpseScrapes are the newest of each pod that are looked at.
	GlimpseScrapes = 3
	// glimpseTimes as large as stable's is the canary's share of failures at least. Stable's time is up to three
	// times as long, so that an outage of both that ends within the canary's makes it up to three times as large.
	glimpseTimes = 3 * disasterTimes
	// glimpsePrior is the part of all bets that is set on glimpses.
	glimpsePrior = 0.01
)

// GlimpseOf looks at the last scrapes of a run's pods; nil if they show no disaster. Pods that were silent for
// longer than the time given are gone.
func GlimpseOf(scrapes []Scrape, silent time.Duration) *Glimpse {
	if !slices.ContainsFunc(scrapes, func(s Scrape) bool { return s.Canary && s.Counts.Errors > 0 }) {
		return nil
	}
	byPod := map[string][]Scrape{}
	var newest time.Time
	for _, scrape := range scrapes {
		byPod[scrape.Pod] = append(byPod[scrape.Pod], scrape)
		if scrape.At.After(newest) {
			newest = scrape.At
		}
	}
	var canary, stable [][]Scrape
	var read []time.Time // when stable's pods were last
	for _, own := range byPod {
		slices.SortFunc(own, func(a, b Scrape) int { return b.At.Compare(a.At) })
		switch {
		case newest.Sub(own[0].At) > silent:
		case own[0].Canary:
			canary = append(canary, own)
		default:
			stable, read = append(stable, own), append(read, own[0].At)
		}
	}
	if len(stable) == 0 {
		return nil
	}
	slices.SortFunc(read, func(a, b time.Time) int { return b.Compare(a) })
	return canaryBy(canary, read[(len(read)-1)/2]).beside(stable)
}

// moment is what the canary's pods had counted when they were read last, up to a time.
type moment struct {
	pods []Counts
	// from is when the first of them began to count what was read, last when the last of them was read.
	from, last time.Time
}

// canaryBy reads the canary's pods up to the time by which half of stable's have been read again.
func canaryBy(pods [][]Scrape, by time.Time) (m moment) {
	for _, own := range pods {
		i := slices.IndexFunc(own, func(s Scrape) bool { return !s.At.After(by) })
		if i < 0 || i >= GlimpseScrapes {
			continue // too young, or long silent
		}
		if own[i].At.Sub(own[i].From) < glimpseSpan && own[i].Counts.Requests > 0 {
			return moment{}
		}
		m.pods = append(m.pods, own[i].Counts)
		if m.from.IsZero() || own[i].From.Before(m.from) {
			m.from = own[i].From
		}
		if own[i].At.After(m.last) {
			m.last = own[i].At
		}
	}
	return m
}

// beside puts next to it what those of stable's pods counted in its time that were read later.
func (m moment) beside(stable [][]Scrape) *Glimpse {
	glimpse := &Glimpse{CanaryPods: m.pods}
	for _, own := range stable {
		if own[0].At.Before(m.last) {
			continue
		}
		var counts Counts
		for _, scrape := range own {
			if scrape.At.After(m.from) {
				counts = counts.plus(scrape.Counts)
			}
		}
		glimpse.StablePods = append(glimpse.StablePods, counts)
	}
	if d := glimpse.disaster(); !d.certain(1) || glimpseTimes*d.StableBad*d.All > d.Bad*d.StableAll {
		return nil
	}
	return glimpse
}

// round is a glimpse as one.
func (g *Glimpse) round() Round {
	round := Round{CanaryPods: g.CanaryPods, StablePods: g.StablePods}
	for _, pod := range g.CanaryPods {
		round.Canary = round.Canary.plus(pod)
	}
	for _, pod := range g.StablePods {
		round.Stable = round.Stable.plus(pod)
	}
	return round
}

func (g *Glimpse) disaster() *Disaster {
	d := &Disaster{}
	d.add(g.round())
	return d
}

// glimpsed is the log evidence of a glimpse by itself: one bet that the canary is worse than stable beyond what
// is tolerated. As often as glimpses are looked at, all of them together are worth glimpsePrior.
func (g *Gate) glimpsed() float64 {
	if g.glimpse == nil {
		return math.Inf(-1)
	}
	errors, seen := &g.measures[0], g.glimpse.trial()
	bets := [][]float64{make([]float64, worseBets)}
	share := seen.canaryAll / (seen.canaryAll + seen.stableAll)
	betWorse(bets, errors.tolerated(g.config), share, seen, g.state.Measures[0].Boundaries[0].Dispersion.factor())
	// There are as many glimpses in a round as pods that are read in it.
	round, pods := float64(g.state.Rounds+1), float64(len(g.glimpse.CanaryPods)+len(g.glimpse.StablePods))
	return alone(bets[0]) + math.Log(glimpsePrior*6/(math.Pi*math.Pi*round*round*pods))
}

// trial of its errors.
func (g *Glimpse) trial() trial {
	return counted("failed", func(counts Counts) uint64 { return counts.Errors }).read(g.round())
}
