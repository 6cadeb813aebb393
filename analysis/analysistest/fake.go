// SPDX-License-Identifier: Apache-2.0

package analysistest

import (
	"context"
	"sync"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

// silentScrapes is how often a pod is waited for that cannot be scraped.
const silentScrapes = 3

// Fake is an analysis.Source over a Workload. Every call to Rounds scrapes it once, at the query's
// Now, which must rise from call to call.
type Fake struct {
	Workload *Workload

	mutex   sync.Mutex
	err     error
	seen    map[string]*seenPod
	scrapes []scrape
}

type seenPod struct {
	counts analysis.Counts
	lost   map[string]uint64
	missed int
}

// scrape holds what both revisions had ever done, as far as was seen.
type scrape struct {
	at             time.Time
	canary, stable analysis.Counts
	complete       bool
}

var _ analysis.Source = (*Fake)(nil)

// Fail makes Rounds answer with an error, or no more if it is nil.
func (f *Fake) Fail(err error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.err = err
}

// Rounds scrapes the workload and answers with the rounds so far.
func (f *Fake) Rounds(ctx context.Context, query analysis.Query) ([]analysis.Round, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if query.Namespace != Namespace || query.CanaryHash != CanaryHash || query.StableHash != StableHash {
		return nil, nil
	}
	f.scrapes = append(f.scrapes, f.scrape(query.Now))
	var before scrape
	var rounds []analysis.Round
	for _, scrape := range f.scrapes {
		switch {
		case !scrape.at.After(query.Since):
			before = scrape
		case scrape.complete:
			rounds = append(rounds, analysis.Round{
				End: scrape.at, Canary: minus(scrape.canary, before.canary), Stable: minus(scrape.stable, before.stable),
			})
			before = scrape
		}
	}
	return rounds, nil
}

func (f *Fake) scrape(now time.Time) scrape {
	f.Workload.mutex.Lock()
	defer f.Workload.mutex.Unlock()
	if f.seen == nil {
		f.seen = map[string]*seenPod{}
	}
	result := scrape{at: now, complete: true}
	present := map[string]bool{}
	for name, pod := range f.Workload.pods {
		if f.seen[name] == nil {
			f.seen[name] = &seenPod{}
		}
		seen, hash := f.seen[name], PodHash(name)
		switch {
		case pod.running && !pod.silent:
			seen.counts, seen.missed, present[hash] = pod.ever, 0, true
			seen.lost = map[string]uint64{CanaryHash: pod.everLost[CanaryHash], StableHash: pod.everLost[StableHash]}
		case pod.running && hash != "":
			seen.missed++
			result.complete = result.complete && seen.missed > silentScrapes
		}
		switch hash {
		case CanaryHash:
			result.canary = plus(result.canary, seen.counts)
		case StableHash:
			result.stable = plus(result.stable, seen.counts)
		}
		result.canary = plus(result.canary, failures(seen.lost[CanaryHash]))
		result.stable = plus(result.stable, failures(seen.lost[StableHash]))
	}
	result.complete = result.complete && present[CanaryHash] && present[StableHash]
	return result
}

func failures(requests uint64) analysis.Counts {
	return analysis.Counts{Requests: requests, Errors: requests}
}

func minus(a, b analysis.Counts) analysis.Counts {
	return analysis.Counts{Requests: a.Requests - b.Requests, Errors: a.Errors - b.Errors, Slow: a.Slow - b.Slow}
}
