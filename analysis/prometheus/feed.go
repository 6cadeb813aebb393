// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

const (
	// fastest and slowest pace of a Feed of few runs; between them it reads four times per scrape.
	fastestPace  = 250 * time.Millisecond
	slowestPace  = time.Second
	readsByRound = 4
	// queriesMost are asked in queriesSpan, or in a round if that is shorter, where that leaves one read: of
	// many runs each read asks much, and so it reads less often.
	queriesMost = 10
	queriesSpan = 5 * time.Second
	// forgottenAfter is how long a run is read for that nobody asks about.
	forgottenAfter = time.Minute
)

// Feed reads the runs that are asked about again and again, all of them together, so that the number of
// queries does not grow with that of the runs, and wakes who asks when there is something new.
//
// The first answer about a run is read at once and by itself.
type Feed struct {
	source *Source
	clock  Clock
	wake   analysis.News

	mutex   sync.Mutex
	watched map[watchedKey]*watched
	// took is how long the last read took, began when the one that is under way did.
	took  time.Duration
	began time.Time
}

var (
	_ analysis.Source  = (*Feed)(nil)
	_ analysis.Numbers = (*Feed)(nil)
)

// watchedKey names a run.
type watchedKey struct {
	namespace, workload, canaryHash, stableHash string
	since                                       int64
}

// watched is a run with what was read of it last.
type watched struct {
	query   analysis.Query
	askedAt time.Time
	// answer to a query like the one above at its Now.
	answer Answer
	asked  analysis.Query
	// newest is the end of the last complete round, and length that of the last one.
	newest time.Time
	length time.Duration
}

// Clock of a Feed: time.Now and time.After.
type Clock struct {
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
}

// SystemClock is the machine's.
func SystemClock() Clock { return Clock{Now: time.Now, After: time.After} }

// NewFeed makes a Feed, which reads once it is started. Wake is called from its goroutine and must not block.
func NewFeed(source *Source, clock Clock, wake analysis.News) *Feed {
	return &Feed{source: source, clock: clock, wake: wake, watched: map[watchedKey]*watched{}}
}

func keyOf(query analysis.Query) watchedKey {
	return watchedKey{query.Namespace, query.Workload, query.CanaryHash, query.StableHash, query.Since.UnixNano()}
}

// Rounds answers with what was read last, if that is of now, else it reads.
func (f *Feed) Rounds(ctx context.Context, query analysis.Query) ([]analysis.Round, error) {
	if answer, ok := f.known(query); ok {
		return answer.Rounds, answer.Err
	}
	answer := f.source.RoundsOf(ctx, []analysis.Query{query})[0]
	f.mutex.Lock()
	defer f.mutex.Unlock()
	w := f.watched[keyOf(query)]
	if w == nil {
		w = &watched{}
		f.watched[keyOf(query)] = w
	}
	w.query, w.askedAt = query, f.clock.Now()
	w.learn(query, answer)
	return answer.Rounds, answer.Err
}

// Queries are those that Rounds and Number ask.
func (f *Feed) Queries(query analysis.Query, numbers ...analysis.NumberQuery) []string {
	return f.source.Queries(query, numbers...)
}

// Number asks at once.
func (f *Feed) Number(ctx context.Context, query analysis.NumberQuery) (analysis.Value, error) {
	return f.source.Number(ctx, query)
}

// known is an answer that is not older than two reads and holds all that is asked for. However long a read
// takes, looks wait for the next: asking by themselves they would make a Prometheus that is slow slower.
func (f *Feed) known(query analysis.Query) (Answer, bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	w := f.watched[keyOf(query)]
	if w == nil {
		return Answer{}, false
	}
	w.query, w.askedAt = query, f.clock.Now()
	if w.asked.LatencyLimit != query.LatencyLimit || !reflect.DeepEqual(w.asked.Custom, query.Custom) || w.asked.After.After(query.After) || query.Now.Sub(w.asked.Now) > f.fresh() {
		return Answer{}, false
	}
	var fresh []analysis.Round
	for _, round := range w.answer.Rounds {
		if round.End.After(query.After) {
			fresh = append(fresh, round)
		}
	}
	return Answer{Rounds: fresh, Err: w.answer.Err}, true
}

// learn what was read, and say whether it is news.
func (w *watched) learn(query analysis.Query, answer Answer) (news bool) {
	before := w.last()
	news = (w.answer.Err == nil) != (answer.Err == nil)
	w.asked, w.answer = query, answer
	for _, round := range answer.Rounds {
		if !round.Open && round.End.After(w.newest) {
			if !w.newest.IsZero() {
				w.length = round.End.Sub(w.newest)
			}
			w.newest = round.End
		}
	}
	return news || w.last().After(before)
}

// alarms says whether there is a glimpse of a disaster in an answer.
func (a Answer) alarms() bool {
	n := len(a.Rounds)
	return n > 0 && a.Rounds[n-1].Glimpse != nil
}

// last is up to when something is known.
func (w *watched) last() time.Time {
	last := w.newest
	if n := len(w.answer.Rounds); n > 0 && w.answer.Rounds[n-1].End.After(last) {
		last = w.answer.Rounds[n-1].End
	}
	return last
}

// Start reads until the context ends.
func (f *Feed) Start(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.clock.After(f.pace()):
			f.read(ctx)
		}
	}
}

// pace is how long to wait for the next read.
func (f *Feed) pace() time.Duration {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.paceNow()
}

// paceNow is for who has the lock.
func (f *Feed) paceNow() time.Duration {
	shortest := time.Duration(0)
	for _, w := range f.watched {
		if w.length > 0 && (shortest == 0 || w.length < shortest) {
			shortest = w.length
		}
	}
	return paceOf(shortest, len(f.watched))
}

// paceOf is a quarter of the shortest round, 0 when none was seen, or longer when so many runs are too much to read so often.
func paceOf(shortest time.Duration, runs int) time.Duration {
	if shortest == 0 {
		return slowestPace
	}
	queries := queriesByBatch * ((runs + together - 1) / together)
	pace := max(fastestPace, min(slowestPace, shortest/readsByRound))
	return max(pace, min(shortest, queriesSpan)*time.Duration(min(queries, queriesMost))/queriesMost)
}

// fresh is how old an answer may be while the next one is due or being read.
func (f *Feed) fresh() time.Duration {
	took := f.took
	if !f.began.IsZero() {
		took = max(took, f.clock.Now().Sub(f.began))
	}
	return 2*max(slowestPace, f.paceNow()) + took
}

// read all runs that somebody asked about lately.
func (f *Feed) read(ctx context.Context) {
	queries := f.due()
	if len(queries) == 0 {
		return
	}
	answers := f.source.RoundsOf(ctx, queries)
	if ctx.Err() != nil {
		return
	}
	f.mutex.Lock()
	f.took, f.began = f.clock.Now().Sub(f.began), time.Time{}
	news := map[int]bool{} // and whether it is an alarm
	for i, query := range queries {
		w := f.watched[keyOf(query)]
		// An answer that was read meanwhile for somebody who asked knows more.
		if w != nil && w.asked.Now.Before(query.Now) && w.learn(query, answers[i]) {
			news[i] = answers[i].alarms()
		}
	}
	f.mutex.Unlock()
	for i, alarm := range news {
		f.wake(queries[i].Namespace, queries[i].Workload, alarm)
	}
}

// due are the queries to ask now.
func (f *Feed) due() []analysis.Query {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	now := f.clock.Now()
	var queries []analysis.Query
	for key, w := range f.watched {
		if now.Sub(w.askedAt) > forgottenAfter {
			delete(f.watched, key)
			continue
		}
		query := w.query
		query.Now = now
		queries = append(queries, query)
	}
	if len(queries) > 0 {
		f.began = now
	}
	return queries
}
