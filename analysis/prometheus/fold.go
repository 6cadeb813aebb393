// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/sluice-mesh/sluice/analysis"
)

const (
	// silentScrapes without a sample, and a pod is not waited for any more.
	silentScrapes = 3
	// usualInterval of scrapes is assumed until two samples of a pod show it.
	usualInterval = 15 * time.Second
)

// sightings are when which pod was scraped.
type sightings struct {
	pods     map[string]*sighted
	times    []time.Time // of any pod, ascending, each once
	interval time.Duration
}

type sighted struct {
	arm   arm
	times []time.Time // ascending, each once
	// next is the index of the first time that the fold has not reached.
	next int
}

// fold turns an answer into rounds: those of stable before the run, then the run's, then what is known
// of the canary since. A round ends with the scrape by which every live pod of both revisions has been
// seen since the round before.
func fold(p plan, answer model.Matrix) ([]analysis.Round, error) {
	var all []series
	p.started = map[string]time.Time{}
	for _, stream := range answer {
		if n := len(stream.Values); stream.Metric[model.MetricNameLabel] == processStart && n > 0 {
			p.started[podOf(stream)] = time.UnixMilli(int64(1000 * float64(stream.Values[n-1].Value)))
		} else if s, ok := newSeries(p, stream); ok {
			all = append(all, s)
		}
	}
	p, err := complete(p, all)
	if err != nil {
		return nil, err
	}
	var rounds []analysis.Round
	if p.rehearsed() > 0 {
		rounds = newAssembler(p.rehearsal(), before(all, p.from)).rounds()
	}
	during := newAssembler(p, all)
	glimpse := during.glimpse()
	rounds = append(rounds, during.rounds()...)
	if open := during.round(p.Now, during.grown); open.Canary.Requests > 0 || glimpse != nil && len(during.grown) > 0 {
		rounds = append(rounds, analysis.Round{
			End: during.grown[len(during.grown)-1].at, Open: true,
			Canary: open.Canary, CanaryCold: open.CanaryCold, ColdKnown: true, Edges: open.Edges,
		})
	}
	if n := len(rounds); n > 0 {
		rounds[n-1].Glimpse = glimpse
	}
	return rounds, nil
}

// rehearsal is the time before the run, in which there is only stable.
func (p plan) rehearsal() plan {
	p.Now, p.from, p.truncated, p.alone, p.After = p.from, p.from.Add(-p.Before), true, true, time.Time{}
	return p
}

// before keeps stable's samples up to a time.
func before(all []series, end time.Time) []series {
	var kept []series
	for _, s := range all {
		n, _ := slices.BinarySearchFunc(s.samples, end, func(s sample, at time.Time) int { return s.at.Compare(at) })
		if s.arm == stable && n > 0 {
			s.samples = s.samples[:n]
			kept = append(kept, s)
		}
	}
	return kept
}

// complete refuses an answer in which a revision has requests but no latencies: without them none
// would be slow. Where the revisions' histograms have not the same other edges, nothing is compared there.
func complete(p plan, all []series) (plan, error) {
	var has [arms][kinds]bool
	for _, s := range all {
		has[s.arm][s.kind] = true
	}
	for a, hash := range [arms]string{p.CanaryHash, p.StableHash} {
		if requests := has[a][succeeded] || has[a][failed]; !requests {
			continue
		}
		if p.edge > 0 && (!has[a][within] || !has[a][answered]) {
			return p, fmt.Errorf("the pods with hash %q export no %s with le=%q", hash, latencyBuckets, fmt.Sprint(p.edge.Milliseconds()))
		}
		for i, kind := range [2]kind{withinFirst, withinSecond} {
			if !has[a][kind] {
				p.edges[i] = 0
			}
		}
	}
	return p, nil
}

// assembler puts what the counters grew by into rounds.
type assembler struct {
	plan
	seen *sightings
	// grown is what no round has yet, oldest first.
	grown []increment
	// warm is when the WarmUp of each pod ends that began to answer in this time.
	warm map[string]time.Time
}

func newAssembler(p plan, all []series) *assembler {
	a := &assembler{plan: p, seen: newSightings(all), warm: map[string]time.Time{}}
	known := map[string]bool{}
	for _, s := range all {
		baseline := s.baseline(p, a.seen)
		grown := s.increments(p.from, baseline)
		a.grown = append(a.grown, grown...)
		if s.kind != succeeded && s.kind != failed {
			continue
		}
		known[s.pod] = known[s.pod] || baseline > 0
		if len(grown) > 0 {
			// The first request came some time since the scrape before.
			warm := grown[0].at.Add(analysis.WarmUp - a.seen.interval/2)
			if at, ok := a.warm[s.pod]; !ok || warm.Before(at) {
				a.warm[s.pod] = warm
			}
		}
	}
	for pod := range known {
		if known[pod] {
			delete(a.warm, pod)
		}
	}
	slices.SortStableFunc(a.grown, func(x, y increment) int { return x.at.Compare(y.at) })
	return a
}

// rounds that are complete. What came after them stays grown.
func (a *assembler) rounds() []analysis.Round {
	var rounds []analysis.Round
	began := a.from
	if a.After.After(began) {
		began = a.After
		a.grown = slices.DeleteFunc(a.grown, func(i increment) bool { return !i.at.After(began) })
	}
	for _, now := range a.seen.times {
		a.seen.advance(now)
		if !now.After(began) || !a.seen.all(began, now, a.alone) {
			continue
		}
		next := 0
		for next < len(a.grown) && !a.grown[next].at.After(now) {
			next++
		}
		rounds = append(rounds, a.round(now, a.grown[:next]))
		a.grown, began = a.grown[next:], now
	}
	return rounds
}

// round sums up what happened before its end.
func (a *assembler) round(end time.Time, grown []increment) analysis.Round {
	var sums, cold [arms][kinds]float64
	pods := [arms]map[string]*[kinds]float64{{}, {}}
	for _, increment := range grown {
		sums[increment.arm][increment.kind] += increment.amount
		if increment.kind == lost {
			continue
		}
		isCold := increment.at.Before(a.warm[increment.pod])
		if isCold {
			cold[increment.arm][increment.kind] += increment.amount
		}
		if own := pods[increment.arm]; increment.arm == canary || !isCold {
			if own[increment.pod] == nil {
				own[increment.pod] = &[kinds]float64{}
			}
			own[increment.pod][increment.kind] += increment.amount
		}
	}
	// Those that had no request are there, too, so that from round to round they are the same.
	for name, pod := range a.seen.pods {
		if pod.arm == canary && pods[canary][name] == nil && pod.next > 0 && end.Sub(pod.times[pod.next-1]) <= silentScrapes*a.seen.interval {
			pods[canary][name] = &[kinds]float64{}
		}
	}
	round := analysis.Round{
		End: end, Canary: a.counts(sums[canary]), Stable: a.counts(sums[stable]),
		CanaryCold: a.counts(cold[canary]), StableCold: a.counts(cold[stable]), ColdKnown: true, Edges: a.edges,
	}
	for _, pod := range slices.Sorted(maps.Keys(pods[stable])) {
		round.StablePods = append(round.StablePods, a.counts(*pods[stable][pod]))
	}
	for _, pod := range slices.Sorted(maps.Keys(pods[canary])) {
		round.CanaryPods = append(round.CanaryPods, a.counts(*pods[canary][pod]))
	}
	return round
}

func (p plan) counts(sums [kinds]float64) analysis.Counts {
	whole := func(sum float64) uint64 { return uint64(max(0, min(sum, largestCount))) }
	counts := analysis.Counts{Errors: whole(sums[failed]) + whole(sums[lost])}
	counts.Requests = counts.Errors + whole(sums[succeeded])
	counts.Slow = min(whole(sums[answered]-sums[within]), counts.Requests)
	for i, kind := range [2]kind{withinFirst, withinSecond} {
		if p.edges[i] > 0 {
			counts.Over[i] = min(whole(sums[answered]-sums[kind]), counts.Requests)
		}
	}
	return counts
}

// newSightings collects when the runs' own pods were scraped; their callers are not waited for.
func newSightings(all []series) *sightings {
	seen := &sightings{pods: map[string]*sighted{}, interval: usualInterval}
	for _, s := range all {
		if s.kind == lost {
			continue
		}
		pod := seen.pods[s.pod]
		if pod == nil {
			pod = &sighted{arm: s.arm}
			seen.pods[s.pod] = pod
		}
		for _, sample := range s.samples {
			pod.times = append(pod.times, sample.at)
		}
	}
	var gaps []time.Duration
	for _, pod := range seen.pods {
		pod.times = ascending(pod.times)
		seen.times = append(seen.times, pod.times...)
		for i := 1; i < len(pod.times); i++ {
			gaps = append(gaps, pod.times[i].Sub(pod.times[i-1]))
		}
	}
	seen.times = ascending(seen.times)
	if len(gaps) > 0 {
		slices.Sort(gaps)
		seen.interval = gaps[len(gaps)/2]
	}
	return seen
}

func ascending(times []time.Time) []time.Time {
	slices.SortFunc(times, time.Time.Compare)
	return slices.CompactFunc(times, time.Time.Equal)
}

// first is when a pod was first seen.
func (s *sightings) first(pod string) time.Time {
	return s.pods[pod].times[0]
}

// scraped says whether any pod was seen shortly before.
func (s *sightings) scraped(at time.Time) bool {
	i, _ := slices.BinarySearchFunc(s.times, at, time.Time.Compare)
	return i > 0 && at.Sub(s.times[i-1]) <= (silentScrapes+1)*s.interval
}

// swept says whether any pod was seen shortly before, and a whole scrape interval before at least.
func (s *sightings) swept(at time.Time) bool {
	i, found := slices.BinarySearchFunc(s.times, at.Add(-s.interval), time.Time.Compare)
	return found || i > 0 && at.Sub(s.times[i-1]) <= (silentScrapes+1)*s.interval
}

// advance moves all pods to what was seen of them by now.
func (s *sightings) advance(now time.Time) {
	for _, pod := range s.pods {
		for pod.next < len(pod.times) && !pod.times[pod.next].After(now) {
			pod.next++
		}
	}
}

// all says whether by now every live pod was seen since the time given, and one at least of each
// revision, or of stable where that is alone: of a revision that has gone silent nothing is known.
func (s *sightings) all(since, now time.Time, alone bool) bool {
	var present [arms]bool
	for _, pod := range s.pods {
		if pod.next == 0 { // not born yet
			continue
		}
		last := pod.times[pod.next-1]
		switch {
		case last.After(since):
			present[pod.arm] = true
		case now.Sub(last) <= silentScrapes*s.interval:
			return false
		}
	}
	return (present[canary] || alone) && present[stable]
}
