// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

// Rounds are those of a run since its start or what is known of it, with the last one open if a revision
// has not reported since. A workload of which nothing came has none.
func (l *Ledger) Rounds(query analysis.Query) ([]analysis.Round, error) {
	if err := check(query); err != nil {
		return nil, fmt.Errorf("read the reports of %s/%s: %w", query.Namespace, query.Workload, err)
	}
	account := l.accounts[query.Namespace+"/"+query.Workload]
	if account == nil {
		return nil, nil
	}
	var rounds []analysis.Round
	sum := newRound(time.Time{})
	since := later(query.Since, query.After)
	for _, round := range account.rounds {
		if !round.end.After(since) || round.end.After(query.Now) {
			continue
		}
		sum.add(round)
		if sum.reported[query.CanaryHash] && sum.reported[query.StableHash] {
			rounds = append(rounds, sum.judged(query))
			sum = newRound(time.Time{})
		}
	}
	if open := sum.judged(query); open.Canary.Requests > 0 {
		// Of a revision that has gone silent nothing is known, and nothing is compared.
		rounds = append(rounds, analysis.Round{
			End: open.End, Open: true, Canary: open.Canary, CanaryCold: open.CanaryCold, ColdKnown: true, Edges: open.Edges,
		})
	}
	return rounds, nil
}

// alarms says whether a revision of a workload failed so much in the last round that it may be a disaster.
func (l *Ledger) alarms(workload string) bool {
	account := l.accounts[workload]
	if account == nil || len(account.rounds) == 0 {
		return false
	}
	served := map[string]Served{}
	for key, of := range account.rounds[len(account.rounds)-1].served {
		served[key.hash] = served[key.hash].plus(*of)
	}
	for _, of := range served {
		if of.Failed > 0 && float64(of.Failed) >= analysis.DisasterShare*float64(of.requests()) {
			return true
		}
	}
	return false
}

func check(query analysis.Query) error {
	switch {
	case query.Namespace == "" || query.Workload == "" || query.CanaryHash == "" || query.StableHash == "":
		return errors.New("the workload and the hashes of both revisions are needed")
	case query.CanaryHash == query.StableHash:
		return fmt.Errorf("both revisions have the hash %q", query.CanaryHash)
	case query.Since.IsZero() || query.Now.Before(query.Since):
		return fmt.Errorf("the run's start %v is not before now, %v", query.Since, query.Now)
	case query.LatencyLimit < 0 || query.LatencyLimit > 0 && analysis.LatencyEdge(query.LatencyLimit) == 0:
		return fmt.Errorf("the latency limit %v is below the lowest bucket edge of 1ms", query.LatencyLimit)
	}
	return nil
}

// add what came after.
func (r *round) add(next *round) {
	for key, served := range next.served {
		sum := *served
		if before := r.served[key]; before != nil {
			sum = before.plus(sum)
		}
		r.served[key] = &sum
	}
	for key, cold := range next.cold {
		r.cold[key] = r.cold[key].plus(cold)
	}
	for key, count := range next.believed {
		r.believed[key] += count
	}
	maps.Copy(r.reported, next.reported)
	r.end = next.end
}

// judged is the round as a gate wants it.
func (r *round) judged(query analysis.Query) analysis.Round {
	edge := analysis.LatencyEdge(query.LatencyLimit)
	counts := func(served Served) analysis.Counts { return served.judged(edge, query.Edges) }
	round := analysis.Round{End: r.end, Edges: query.Edges, ColdKnown: true}
	var canary, stable, canaryCold, stableCold Served
	byName := func(a, b podKey) int { return cmp.Compare(a.pod, b.pod) }
	for _, key := range slices.SortedFunc(maps.Keys(r.served), byName) {
		switch served, cold := *r.served[key], r.cold[key]; key.hash {
		case query.CanaryHash:
			canary, canaryCold = canary.plus(served), canaryCold.plus(cold)
			round.CanaryPods = append(round.CanaryPods, counts(served))
		case query.StableHash:
			stable, stableCold = stable.plus(served), stableCold.plus(cold)
			// How cold pods differ says nothing of how warm ones do.
			round.StablePods = append(round.StablePods, counts(served.since(cold)))
		}
	}
	round.Canary, round.Stable = counts(canary), counts(stable)
	round.CanaryCold, round.StableCold = counts(canaryCold), counts(stableCold)
	for key, lost := range r.believed {
		switch key.hash {
		case query.CanaryHash:
			round.Canary.Requests, round.Canary.Errors = round.Canary.Requests+lost, round.Canary.Errors+lost
		case query.StableHash:
			round.Stable.Requests, round.Stable.Errors = round.Stable.Requests+lost, round.Stable.Errors+lost
		}
	}
	return round
}

// Coverage is how many of a workload's pods report.
type Coverage struct{ Reporting, Known int }

func (c Coverage) String() string { return fmt.Sprintf("from %d of %d proxies", c.Reporting, c.Known) }

// Coverage of the proxies that are expected to report of a workload, by name: those that carry its
// requests.
func (l *Ledger) Coverage(workload string, expected []string, now time.Time) Coverage {
	coverage := Coverage{Known: len(expected)}
	account := l.accounts[workload]
	if account == nil {
		return coverage
	}
	for _, name := range expected {
		pod, caller := account.pods[name], account.callers[name]
		if pod != nil && now.Sub(pod.at) <= silentAfter || caller != nil && now.Sub(caller.at) <= silentAfter {
			coverage.Reporting++
		}
	}
	return coverage
}
