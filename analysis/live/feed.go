// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

// ErrUnavailable is wrapped by errors which say that the control plane could not be asked.
var ErrUnavailable = errors.New("live reports unavailable")

const (
	// pace of reads: twice per tally.
	pace = 250 * time.Millisecond
	// tellEvery so often there is news of a round in which little failed: of every other one.
	tellEvery = 900 * time.Millisecond
	// staleAfter no answer is of now any more.
	staleAfter = 3 * time.Second
	// unaskedAfter is how long a workload is read for that nobody asks about.
	unaskedAfter = time.Minute
	readTimeout  = 2 * time.Second
)

// Reading is what came since the one before.
type Reading struct {
	Tallies []Tally
	// Carriers are the proxies that carry each workload's requests, "namespace/name" of their pods. A
	// workload that is not among the keys is in no run.
	Carriers map[string][]string
	// Shares are the parts of each workload's requests that its revisions are meant to get, by hash.
	Shares map[string]map[string]float64
}

// Clock of a Feed: time.Now and time.After.
type Clock struct {
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
}

// Feed is an analysis.Source over the tallies that somebody receives. It reads those of the workloads
// that are asked about, all of them together, and wakes who asks when a round has ended.
type Feed struct {
	read  func(ctx context.Context, workloads []string) (Reading, error)
	clock Clock
	wake  analysis.News

	mutex  sync.Mutex
	ledger *Ledger
	asked  map[workloadName]time.Time
	// answered is when the last reading came, and failed why none has come since.
	answered time.Time
	failed   error
	carriers map[string][]string
	// told is when somebody was last woken for a workload.
	told map[string]time.Time
}

type workloadName struct{ namespace, name string }

func (n workloadName) String() string { return n.namespace + "/" + n.name }

var _ analysis.Source = (*Feed)(nil)

// SystemClock is the machine's.
func SystemClock() Clock { return Clock{Now: time.Now, After: time.After} }

// NewFeed makes a Feed, which reads once it is started. Wake is called from its goroutine and must not block.
func NewFeed(read func(ctx context.Context, workloads []string) (Reading, error), clock Clock, wake analysis.News) *Feed {
	return &Feed{read: read, clock: clock, wake: wake, ledger: NewLedger(), asked: map[workloadName]time.Time{}, told: map[string]time.Time{}}
}

// Rounds are those that ended by now. The first look at a workload begins its reading and has none.
func (f *Feed) Rounds(_ context.Context, query analysis.Query) ([]analysis.Round, error) {
	if len(query.Custom) > 0 {
		return nil, errors.New("proxies count no metrics of the workload's own: spec.gate.metrics needs Prometheus")
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	now := f.clock.Now()
	f.asked[workloadName{query.Namespace, query.Workload}] = now
	if !f.answered.IsZero() && now.Sub(f.answered) <= staleAfter {
		return f.ledger.Rounds(query)
	}
	if f.failed != nil {
		return nil, fmt.Errorf("read the reports of %s/%s: %w: %w", query.Namespace, query.Workload, ErrUnavailable, f.failed)
	}
	return nil, nil
}

// Covered says how many of the proxies that carry a workload's requests have reported of late.
func (f *Feed) Covered(namespace, workload string) string {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	name := workloadName{namespace, workload}.String()
	return f.ledger.Coverage(name, f.carriers[name], f.clock.Now()).String()
}

// Start reads until the context ends.
func (f *Feed) Start(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.clock.After(pace):
			f.take(ctx)
		}
	}
}

// take reads what is asked about, if anything is.
func (f *Feed) take(ctx context.Context) {
	wanted := f.wanted()
	if len(wanted) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	reading, err := f.read(ctx, slices.Sorted(maps.Keys(wanted)))
	for name, alarm := range f.learn(wanted, reading, err) {
		if of, ok := wanted[name]; ok {
			f.wake(of.namespace, of.name, alarm)
		}
	}
}

func (f *Feed) wanted() map[string]workloadName {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	now := f.clock.Now()
	for name, at := range f.asked {
		if now.Sub(at) > unaskedAfter {
			delete(f.asked, name)
			f.ledger.End(name.String())
		}
	}
	f.ledger.Forget(now)
	wanted := map[string]workloadName{}
	for name := range f.asked {
		wanted[name.String()] = name
	}
	return wanted
}

// learn what was read and return the workloads of which a round has ended, and whether much failed in it. Of
// the others somebody is told once a second: hundreds of runs would be looked at all the time.
func (f *Feed) learn(wanted map[string]workloadName, reading Reading, err error) map[string]bool {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.failed = err; err != nil {
		return nil
	}
	f.answered, f.carriers = f.clock.Now(), reading.Carriers
	for workload := range wanted {
		if _, runs := reading.Carriers[workload]; !runs {
			f.ledger.End(workload)
		}
	}
	news := map[string]bool{}
	for _, tally := range reading.Tallies {
		if !f.ledger.Add(tally) {
			continue
		}
		if alarm := f.ledger.alarms(tally.Workload); alarm || f.answered.Sub(f.told[tally.Workload]) >= tellEvery {
			news[tally.Workload], f.told[tally.Workload] = news[tally.Workload] || alarm, f.answered
		}
	}
	maps.DeleteFunc(f.told, func(name string, _ time.Time) bool { _, runs := wanted[name]; return !runs })
	for workload, shares := range reading.Shares {
		f.ledger.Share(workload, shares)
	}
	return news
}
