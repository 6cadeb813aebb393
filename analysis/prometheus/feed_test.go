// SPDX-License-Identifier: Apache-2.0

package prometheus_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis/prometheus"
)

// ticking is a clock whose hand the test moves.
type ticking struct {
	mutex sync.Mutex
	now   time.Time
	paces chan time.Duration
	fire  chan time.Time
}

func newTicking() *ticking {
	return &ticking{now: query.Now, paces: make(chan time.Duration), fire: make(chan time.Time)}
}

func (c *ticking) clock() prometheus.Clock {
	return prometheus.Clock{
		Now: func() time.Time {
			c.mutex.Lock()
			defer c.mutex.Unlock()
			return c.now
		},
		After: func(pace time.Duration) <-chan time.Time {
			c.paces <- pace
			return c.fire
		},
	}
}

// started has a feed read until it is ended.
func started(t *testing.T, feed *prometheus.Feed) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- feed.Start(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

// tick lets the feed, which waits, read once and returns how long it wants to wait afterwards.
func (c *ticking) tick(moved time.Duration) time.Duration {
	c.mutex.Lock()
	c.now = c.now.Add(moved)
	c.mutex.Unlock()
	c.fire <- time.Time{}
	return <-c.paces
}

// Few runs are read four times per scrape, and of however many no more is asked than ten queries in five
// seconds, or in a scrape that is shorter; or one read of all.
func TestFeedsPace(t *testing.T) {
	for _, c := range []struct {
		round time.Duration
		runs  int
		want  time.Duration
	}{
		{0, 500, time.Second},
		{500 * time.Millisecond, 1, 250 * time.Millisecond},
		{2 * time.Second, 1, 500 * time.Millisecond},
		{5 * time.Second, 250, time.Second},
		{5 * time.Second, 251, 2 * time.Second},
		{5 * time.Second, 500, 2 * time.Second},
		{5 * time.Second, 5000, 5 * time.Second},
		{15 * time.Second, 1, time.Second},
		{15 * time.Second, 500, 2 * time.Second},
	} {
		require.Equal(t, c.want, prometheus.PaceOf(c.round, c.runs), "%d runs, rounds of %s", c.runs, c.round)
	}
}

// A read that takes long makes looks wait for the next one, and not ask by themselves.
func TestFeedThatIsSlowIsNotAskedMore(t *testing.T) {
	clock := newTicking()
	var asked atomic.Int64
	var slow atomic.Bool
	answer := answering(&asked, 0, "aa")
	source := newSource(t, func(w http.ResponseWriter, r *http.Request) {
		if slow.Load() {
			clock.mutex.Lock()
			clock.now = clock.now.Add(3 * time.Second)
			clock.mutex.Unlock()
		}
		answer(w, r)
	})
	feed := prometheus.NewFeed(source, clock.clock(), func(string, string, bool) {})
	query := runs("aa")[0]
	_, err := feed.Rounds(t.Context(), query)
	require.NoError(t, err)
	end := started(t, feed)
	<-clock.paces
	slow.Store(true)
	clock.tick(time.Second)
	slow.Store(false)
	asked.Store(0)
	query.Now = clock.clock().Now()
	_, err = feed.Rounds(t.Context(), query)
	require.NoError(t, err)
	require.Zero(t, asked.Load(), "what was read began 6 s ago, and took as long")
	query.Now = query.Now.Add(time.Minute)
	_, err = feed.Rounds(t.Context(), query)
	require.NoError(t, err)
	require.EqualValues(t, 2, asked.Load(), "the feed stands still")
	end()
}

// Runs that are asked about are read together, and their looks ask nothing by themselves.
func TestFeedReadsTogether(t *testing.T) {
	var asked atomic.Int64
	source := newSource(t, answering(&asked, 0, "aa", "bb", "cc"))
	clock := newTicking()
	woken := make(chan string, 10)
	feed := prometheus.NewFeed(source, clock.clock(), func(namespace, workload string, _ bool) { woken <- namespace + "/" + workload })
	for i, query := range runs("aa", "bb", "cc") {
		rounds, err := feed.Rounds(t.Context(), query)
		require.NoError(t, err)
		require.Len(t, rounds, 1)
		require.EqualValues(t, 10*(i+1), rounds[0].Canary.Requests)
	}
	require.EqualValues(t, 6, asked.Swap(0), "the first look at each reads by itself")

	end := started(t, feed)
	require.Equal(t, time.Second, <-clock.paces)
	require.Equal(t, time.Second, clock.tick(time.Second))
	require.EqualValues(t, 2, asked.Swap(0), "one batch for all")
	require.Empty(t, woken, "nothing is new")
	for _, query := range runs("aa", "bb", "cc") {
		query.Now = query.Now.Add(time.Second)
		query.After = query.Since.Add(time.Second)
		rounds, err := feed.Rounds(t.Context(), query)
		require.NoError(t, err)
		require.Len(t, rounds, 1)
		query.After = rounds[0].End
		rounds, err = feed.Rounds(t.Context(), query)
		require.NoError(t, err)
		require.Empty(t, rounds, "what is known is not told again")
	}
	require.Zero(t, asked.Load(), "looks are answered by what was read")
	end()
}

// An outage wakes who asks, once, and so does its end; nobody is read for that nobody asks about.
func TestFeedTellsOfOutagesAndForgets(t *testing.T) {
	var down atomic.Bool
	var asked atomic.Int64
	answer := answering(&asked, 0, "shop")
	source := newSource(t, func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			asked.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		answer(w, r)
	})
	clock := newTicking()
	woken := make(chan string, 10)
	feed := prometheus.NewFeed(source, clock.clock(), func(namespace, workload string, _ bool) { woken <- namespace + "/" + workload })
	_, err := feed.Rounds(t.Context(), query)
	require.NoError(t, err)
	end := started(t, feed)
	<-clock.paces

	down.Store(true)
	clock.tick(time.Second)
	require.Equal(t, "shop/checkout", <-woken)
	clock.tick(time.Second)
	now := query
	now.Now = now.Now.Add(2 * time.Second)
	_, err = feed.Rounds(t.Context(), now)
	require.ErrorIs(t, err, prometheus.ErrUnavailable)
	down.Store(false)
	clock.tick(time.Second)
	require.Equal(t, "shop/checkout", <-woken)
	require.Empty(t, woken)

	before := asked.Load()
	clock.tick(2 * time.Minute)
	clock.tick(time.Second)
	require.Equal(t, before, asked.Load(), "nobody asked for two minutes")
	end()
}
