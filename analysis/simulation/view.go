// SPDX-License-Identifier: Apache-2.0

package simulation

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

// epoch is when runs start.
func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func at(seconds float64) time.Time {
	return epoch().Add(time.Duration(math.Round(seconds * float64(time.Second))))
}

// view turns what is scraped of a world into rounds, by the rules by which the readers of real metrics
// do: a round ends when everything that is scraped has been seen since the round before.
type view struct {
	world  *world
	limit  time.Duration
	picked [2]time.Duration
	// lateBirth loses the first sample of each series, as rate() does.
	lateBirth bool

	rounds []analysis.Round
	open   analysis.Round
	began  float64
	seen   []float64 // by scraper
	last   []tally   // by meter, at the end of the last round
	latest []tally
	cold   []tally // by meter, since the last round, from pods that are not warm
	// recent are the last scrapes of each pod, where the pods themselves are scraped.
	recent [][]analysis.Scrape
}

func newView(w *world, limit time.Duration) *view {
	v := &view{world: w, limit: limit, began: -history, seen: make([]float64, len(w.next))}
	n := len(w.meters)
	v.last, v.latest, v.cold = make([]tally, n), make([]tally, n), make([]tally, n)
	v.recent = make([][]analysis.Scrape, len(w.pods))
	i := 0
	for _, edge := range w.edges {
		if seconds(edge) != limit && i < 2 {
			v.picked[i] = seconds(edge)
			i++
		}
	}
	for i := range v.seen {
		v.seen[i] = -history
	}
	w.scraped = v.scraped
	return v
}

// since are the rounds that have ended since, and the open one.
func (v *view) since(then time.Time) []analysis.Round {
	ended := len(v.rounds)
	for ended > 0 && v.rounds[ended-1].End.After(then) {
		ended--
	}
	rounds := slices.Clone(v.rounds[ended:])
	if !v.open.End.IsZero() {
		rounds = append(rounds, v.open)
	}
	if n := len(rounds); n > 0 {
		rounds[n-1].Glimpse = analysis.GlimpseOf(slices.Concat(v.recent...), at(3*v.world.vantage.Scrape).Sub(epoch()))
	}
	return rounds
}

func (v *view) scraped(scraper int, now float64) {
	w := v.world
	before := v.seen[scraper]
	v.seen[scraper] = now
	for i := range w.meters {
		m := &w.meters[i]
		if m.scraper != scraper || len(m.samples) == 0 {
			continue
		}
		born := v.latest[i].requests == 0
		counted := v.latest[i]
		v.latest[i] = m.samples[len(m.samples)-1].tally
		v.remember(m.pod, before, now, v.counts(counted, v.latest[i]))
		// Pods of the canary begin to answer at 0; what they counted is as old as the sample.
		if w.pods[m.pod].canary && now < analysis.WarmUp.Seconds() {
			v.cold[i].grow(counted, v.latest[i])
		}
		if born && v.lateBirth {
			v.last[i] = v.latest[i]
		}
	}
	v.open = analysis.Round{End: at(now), Open: true, ColdKnown: true}
	for i := range w.meters {
		if w.pods[w.meters[i].pod].canary {
			v.open.Canary = plus(v.open.Canary, v.counts(v.last[i], v.latest[i]))
			v.open.CanaryCold = plus(v.open.CanaryCold, v.counts(tally{}, v.cold[i]))
		}
	}
	if v.complete(now) {
		v.close(now)
	}
}

// remember a scrape of a pod.
func (v *view) remember(pod int, from, to float64, counts analysis.Counts) {
	if v.world.vantage.Callers > 0 {
		return
	}
	recent := append(v.recent[pod], analysis.Scrape{Pod: strconv.Itoa(pod), Canary: v.world.pods[pod].canary, From: at(from), At: at(to), Counts: counts})
	v.recent[pod] = recent[max(0, len(recent)-analysis.GlimpseScrapes):]
}

// complete: all that is scraped was seen since the last round. Before the run there is no canary.
func (v *view) complete(now float64) bool {
	for scraper, seen := range v.seen {
		if !v.exists(scraper, now) {
			continue
		}
		if seen <= v.began {
			return false
		}
	}
	return now > v.began
}

func (v *view) exists(scraper int, now float64) bool {
	return v.world.vantage.Callers > 0 || now >= 0 || !v.world.pods[scraper].canary
}

func (v *view) close(now float64) {
	round := analysis.Round{End: at(now), Edges: v.picked, ColdKnown: true, StablePods: make([]analysis.Counts, 0, stablePods)}
	byPod := make([]analysis.Counts, len(v.world.pods))
	for i := range v.world.meters {
		pod := v.world.meters[i].pod
		byPod[pod] = plus(byPod[pod], v.counts(v.last[i], v.latest[i]))
		round.CanaryCold = plus(round.CanaryCold, v.counts(tally{}, v.cold[i]))
		v.last[i], v.cold[i] = v.latest[i], tally{}
	}
	for i, counts := range byPod {
		if v.world.pods[i].canary {
			round.Canary = plus(round.Canary, counts)
			round.CanaryPods = append(round.CanaryPods, counts)
		} else {
			round.Stable = plus(round.Stable, counts)
			round.StablePods = append(round.StablePods, counts)
		}
	}
	v.rounds = append(v.rounds, round)
	v.open, v.began = analysis.Round{}, now
}

// grow by what was counted between two samples.
func (t *tally) grow(from, to tally) {
	t.requests += to.requests - from.requests
	t.errors += to.errors - from.errors
	for i := range t.over {
		t.over[i] += to.over[i] - from.over[i]
	}
}

// counts between two samples.
func (v *view) counts(from, to tally) analysis.Counts {
	counts := analysis.Counts{Requests: uint64(to.requests - from.requests), Errors: uint64(to.errors - from.errors)}
	for i, edge := range v.world.edges {
		n := uint64(to.over[i] - from.over[i])
		switch seconds(edge) {
		case v.limit:
			counts.Slow = n
		case v.picked[0]:
			counts.Over[0] = n
		case v.picked[1]:
			counts.Over[1] = n
		}
	}
	return counts
}

func plus(a, b analysis.Counts) analysis.Counts {
	return analysis.Counts{
		Requests: a.Requests + b.Requests, Errors: a.Errors + b.Errors, Slow: a.Slow + b.Slow,
		Over: [2]uint64{a.Over[0] + b.Over[0], a.Over[1] + b.Over[1]},
	}
}

// growth is what rate() and increase() see of one revision in a window, without extrapolation: from
// the first to the last sample of each series in it. A series of errors exists from its first error on.
func (w *world) growth(ofCanary bool, from, to float64) tally {
	var sum tally
	for i := range w.meters {
		m := &w.meters[i]
		if w.pods[m.pod].canary != ofCanary {
			continue
		}
		first, _ := slices.BinarySearchFunc(m.samples, from, func(s sample, at float64) int { return compare(s.at, at) })
		end, _ := slices.BinarySearchFunc(m.samples, to+1e-9, func(s sample, at float64) int { return compare(s.at, at) })
		window := m.samples[first:end]
		grow := func(read func(tally) int) int {
			for j, s := range window {
				if read(s.tally) > 0 {
					return read(window[len(window)-1].tally) - read(window[j].tally)
				}
			}
			return 0
		}
		sum.requests += grow(func(t tally) int { return t.requests })
		sum.errors += grow(func(t tally) int { return t.errors })
		born := slices.IndexFunc(window, func(s sample) bool { return s.requests > 0 })
		for j := range w.edges {
			if born >= 0 {
				sum.over[j] += window[len(window)-1].over[j] - window[born].over[j]
			}
		}
	}
	return sum
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// success is the share of requests that did not fail; NaN without requests.
func (t tally) success() float64 {
	if t.requests <= 0 {
		return math.NaN()
	}
	return 1 - float64(t.errors)/float64(t.requests)
}

// quantile is what histogram_quantile makes of a histogram; NaN without requests.
func (t tally) quantile(q float64, edges []float64) float64 {
	if t.requests <= 0 {
		return math.NaN()
	}
	rank := q * float64(t.requests)
	lower, below := 0.0, 0.0
	for i, edge := range edges {
		within := float64(t.requests - t.over[i])
		if within >= rank && within > below {
			return lower + (edge-lower)*(rank-below)/(within-below)
		}
		lower, below = edge, within
	}
	return lower
}
