// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"fmt"
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

// fold turns an answer into rounds. A round ends with the scrape by which every live pod of both
// revisions has been seen since the round before; what came after the last such scrape waits.
func fold(p plan, answer model.Matrix) ([]analysis.Round, error) {
	var all []series
	for _, stream := range answer {
		if s, ok := newSeries(p, stream); ok {
			all = append(all, s)
		}
	}
	if err := complete(p, all); err != nil {
		return nil, err
	}
	seen := newSightings(all)
	var grown []increment
	for _, s := range all {
		grown = append(grown, s.increments(p.from, s.baseline(p, seen))...)
	}
	slices.SortFunc(grown, func(a, b increment) int { return a.at.Compare(b.at) })

	var rounds []analysis.Round
	began := p.from
	for _, now := range seen.times {
		seen.advance(now)
		if !now.After(began) || !seen.all(began, now) {
			continue
		}
		next := 0
		for next < len(grown) && !grown[next].at.After(now) {
			next++
		}
		rounds = append(rounds, newRound(now, grown[:next]))
		grown, began = grown[next:], now
	}
	return rounds, nil
}

// complete refuses an answer in which a revision has requests but no latencies: without them none
// would be slow.
func complete(p plan, all []series) error {
	if p.edge == 0 {
		return nil
	}
	var has [arms][kinds]bool
	for _, s := range all {
		has[s.arm][s.kind] = true
	}
	for a, hash := range [arms]string{p.CanaryHash, p.StableHash} {
		requests, latencies := has[a][succeeded] || has[a][failed], has[a][within] && has[a][answered]
		if requests && !latencies {
			return fmt.Errorf("the pods with hash %q export no %s with le=%q", hash, latencyBuckets, fmt.Sprint(p.edge.Milliseconds()))
		}
	}
	return nil
}

// newRound sums up what happened before its end.
func newRound(end time.Time, grown []increment) analysis.Round {
	var sums [arms][kinds]float64
	for _, increment := range grown {
		sums[increment.arm][increment.kind] += increment.amount
	}
	return analysis.Round{End: end, Canary: newCounts(sums[canary]), Stable: newCounts(sums[stable])}
}

func newCounts(sums [kinds]float64) analysis.Counts {
	whole := func(sum float64) uint64 { return uint64(max(0, min(sum, largestCount))) }
	counts := analysis.Counts{Errors: whole(sums[failed]) + whole(sums[lost])}
	counts.Requests = counts.Errors + whole(sums[succeeded])
	counts.Slow = min(whole(sums[answered]-sums[within]), counts.Requests)
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

// advance moves all pods to what was seen of them by now.
func (s *sightings) advance(now time.Time) {
	for _, pod := range s.pods {
		for pod.next < len(pod.times) && !pod.times[pod.next].After(now) {
			pod.next++
		}
	}
}

// all says whether by now every live pod was seen since the time given, and one at least of each
// revision: of a revision that has gone silent nothing is known.
func (s *sightings) all(since, now time.Time) bool {
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
	return present[canary] && present[stable]
}
