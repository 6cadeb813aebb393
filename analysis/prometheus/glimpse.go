// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"slices"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

// glimpse of a disaster in what the pods counted last. What their callers counted waits for complete rounds.
func (a *assembler) glimpse() *analysis.Glimpse {
	if len(a.seen.times) == 0 {
		return nil
	}
	newest := a.seen.times[len(a.seen.times)-1]
	oldest := newest.Add(-analysis.GlimpseScrapes * a.seen.interval)
	if !slices.ContainsFunc(a.grown, func(i increment) bool { return i.arm == canary && i.kind == failed && i.at.After(oldest) }) {
		return nil
	}
	type read struct {
		pod string
		at  time.Time
	}
	sums := map[read]*[kinds]float64{}
	for _, increment := range a.grown {
		if increment.kind == lost || !increment.at.After(oldest) {
			continue
		}
		of := read{increment.pod, increment.at}
		if sums[of] == nil {
			sums[of] = &[kinds]float64{}
		}
		sums[of][increment.kind] += increment.amount
	}
	var scrapes []analysis.Scrape
	for name, pod := range a.seen.pods {
		for i, at := range pod.times {
			if !at.After(oldest) {
				continue
			}
			scrape := analysis.Scrape{Pod: name, Canary: pod.arm == canary, From: at.Add(-a.seen.interval), At: at}
			if i > 0 { // else it began since the scrape before, or what it had counted is left out
				scrape.From = pod.times[i-1]
			}
			if sum := sums[read{name, at}]; sum != nil {
				scrape.Counts = a.counts(*sum)
			}
			scrapes = append(scrapes, scrape)
		}
	}
	return analysis.GlimpseOf(scrapes, silentScrapes*a.seen.interval)
}
