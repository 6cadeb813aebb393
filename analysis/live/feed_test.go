// SPDX-License-Identifier: Apache-2.0

package live_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/analysistest"
	"github.com/sluice-mesh/sluice/analysis/live"
)

const unaskedAfter = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// desk is where a feed reads, and the hand of its clock.
type desk struct {
	mutex   sync.Mutex
	now     time.Time
	reading live.Reading
	err     error
	asked   []string
	ticks   chan time.Time
	waits   chan struct{}
	woken   chan string
	feed    *live.Feed
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{now: start(), ticks: make(chan time.Time), waits: make(chan struct{}), woken: make(chan string, 100)}
	clock := live.Clock{
		Now: func() time.Time {
			d.mutex.Lock()
			defer d.mutex.Unlock()
			return d.now
		},
		After: func(time.Duration) <-chan time.Time {
			d.waits <- struct{}{}
			return d.ticks
		},
	}
	d.feed = live.NewFeed(func(_ context.Context, workloads []string) (live.Reading, error) {
		d.mutex.Lock()
		defer d.mutex.Unlock()
		d.asked = workloads
		return d.reading, d.err
	}, clock, func(namespace, workload string, alarm bool) {
		text := namespace + "/" + workload
		if alarm {
			text += " alarm"
		}
		d.woken <- text
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.feed.Start(ctx) }()
	<-d.waits
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return d
}

// tick moves the clock and lets the feed read once.
func (d *desk) tick(by time.Duration, reading live.Reading, err error) {
	d.mutex.Lock()
	d.now, d.reading, d.err, d.asked = d.now.Add(by), reading, err, nil
	d.mutex.Unlock()
	d.ticks <- time.Time{}
	<-d.waits
}

func (d *desk) rounds() ([]analysis.Round, error) {
	query := since(start())
	query.Now = d.now
	return d.feed.Rounds(context.Background(), query)
}

func TestFeed(t *testing.T) {
	d := newDesk(t)
	d.tick(time.Second, live.Reading{}, nil)
	require.Empty(t, d.asked, "nobody wants to know")
	rounds, err := d.rounds()
	require.NoError(t, err)
	require.Empty(t, rounds)

	stable, canary := newProxy("s1", stableHash, start()), newProxy("c1", canaryHash, start())
	for range 3 {
		canary.serve(2, 1, 0)
		reading := live.Reading{
			Tallies:  []live.Tally{stable.tally(d.now.Add(time.Second)), canary.tally(d.now.Add(time.Second))},
			Carriers: map[string][]string{workload: {"shop/s1", "shop/c1", "shop/caller"}},
		}
		d.tick(time.Second, reading, nil)
		require.Equal(t, []string{workload}, d.asked)
	}
	require.Equal(t, workload+" alarm", <-d.woken, "a third of the canary's requests failed")
	rounds, err = d.rounds()
	require.NoError(t, err)
	require.NotEmpty(t, rounds)
	require.Equal(t, "from 2 of 3 proxies", d.feed.Covered("shop", "web"))

	query := since(start())
	query.Custom = make([]analysis.CustomQuery, 1)
	_, err = d.feed.Rounds(t.Context(), query)
	require.ErrorContains(t, err, "spec.gate.metrics needs Prometheus")

	away := errors.New("connection refused")
	d.tick(time.Second, live.Reading{}, away)
	_, err = d.rounds()
	require.NoError(t, err, "what was read a second ago is still of now")
	d.tick(4*time.Second, live.Reading{}, away)
	_, err = d.rounds()
	require.ErrorIs(t, err, live.ErrUnavailable)
	require.ErrorContains(t, err, "connection refused")
	d.tick(time.Second, live.Reading{}, nil)
	_, err = d.rounds()
	require.NoError(t, err)
	d.tick(2*unaskedAfter, live.Reading{}, nil)
	require.Empty(t, d.asked, "nobody asked for two minutes")
}

// Somebody is woken once a second, but at once for what may be a disaster.
func TestFeedAlarms(t *testing.T) {
	d := newDesk(t)
	_, err := d.rounds()
	require.NoError(t, err)
	stable, canary := newProxy("s1", stableHash, start()), newProxy("c1", canaryHash, start())
	half := func(good, bad uint64) (woken []string) {
		stable.serve(100, 0, 0)
		canary.serve(good, bad, 0)
		at := d.now.Add(500 * time.Millisecond)
		d.tick(500*time.Millisecond, live.Reading{Tallies: []live.Tally{stable.tally(at), canary.tally(at)}, Carriers: map[string][]string{workload: nil}}, nil)
		for len(d.woken) > 0 {
			woken = append(woken, <-d.woken)
		}
		return woken
	}
	half(5, 0)
	half(5, 0)
	told := 0
	for range 10 {
		woken := half(5, 1)
		told += len(woken)
		require.NotContains(t, woken, workload+" alarm", "a sixth failed")
	}
	require.Equal(t, 5, told)
	require.Equal(t, []string{workload + " alarm"}, half(3, 1))
	require.Equal(t, []string{workload + " alarm"}, half(0, 1))
}

// What pods count between two runs is of neither, whether the mesh says that a run is over or nobody asks
// any more.
func TestBetweenRuns(t *testing.T) {
	for name, between := range map[string]func(d *desk){
		"no split": func(d *desk) { d.tick(time.Second, live.Reading{}, nil) },
		"unasked":  func(d *desk) { d.tick(2*unaskedAfter, live.Reading{Carriers: map[string][]string{workload: nil}}, nil) },
	} {
		d := newDesk(t)
		_, err := d.rounds()
		require.NoError(t, err)
		stable, canary := newProxy("s1", stableHash, start()), newProxy("c1", canaryHash, start())
		second := func() {
			at := d.now.Add(time.Second)
			tallies := []live.Tally{stable.tally(at), canary.tally(at)}
			d.tick(time.Second, live.Reading{Tallies: tallies, Carriers: map[string][]string{workload: nil}}, nil)
		}
		stable.serve(10, 0, 0)
		second()
		stable.serve(10, 0, 0)
		second()
		between(d)
		query := since(start())
		query.Since = d.now
		stable.serve(0, 1000, 0)
		_, err = d.rounds()
		require.NoError(t, err)
		for range 3 {
			second()
			stable.serve(5, 0, 0)
		}
		query.Now = d.now
		rounds, err := d.feed.Rounds(t.Context(), query)
		require.NoError(t, err)
		require.NotEmpty(t, rounds, name)
		for _, round := range rounds {
			require.Zero(t, round.Stable.Errors, name)
		}
	}
}

// The suite of all sources, on tallies as proxies make them of the same counters.
func TestFeedConformance(t *testing.T) {
	analysistest.TestSource(t, func(t *testing.T) analysistest.Bench {
		workload := &analysistest.Workload{}
		sequences := map[string]uint64{}
		read := func(context.Context, []string) (live.Reading, error) {
			var reading live.Reading
			for _, name := range []string{
				analysistest.Stable1, analysistest.Stable2, analysistest.Canary1, analysistest.Canary2, analysistest.Caller,
			} {
				counters, ok := workload.Counters(name)
				if !ok {
					continue
				}
				sequences[name]++
				reading.Tallies = append(reading.Tallies, tallied(name, counters, sequences[name], workload))
			}
			reading.Carriers = map[string][]string{analysistest.Namespace + "/" + analysistest.Name: nil}
			reading.Shares = map[string]map[string]float64{
				analysistest.Namespace + "/" + analysistest.Name: {analysistest.CanaryHash: 0.5, analysistest.StableHash: 0.5},
			}
			return reading, nil
		}
		feed := live.NewFeed(read, live.SystemClock(), func(string, string, bool) {})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- feed.Start(ctx) }()
		t.Cleanup(func() {
			cancel()
			require.NoError(t, <-ended)
		})
		return analysistest.Bench{Workload: workload, Source: feed}
	})
}

func tallied(name string, counters analysistest.Counters, sequence uint64, of *analysistest.Workload) live.Tally {
	now := time.Now()
	tally := live.Tally{
		Reporter: analysistest.Namespace + "/" + name, Hash: analysistest.PodHash(name),
		Session: uint64(counters.Began.UnixNano()), Age: now.Sub(counters.Began), Sequence: sequence, At: now,
	}
	if tally.Hash != "" {
		tally.Workload = analysistest.Namespace + "/" + analysistest.Name
	}
	tally.Served.Succeeded, tally.Served.Failed = counters.Requests-counters.Errors, counters.Errors
	tally.Served.Latencies[0], tally.Served.Latencies[14] = counters.Requests-counters.Slow, counters.Slow
	if name != analysistest.Caller {
		return tally
	}
	// It alone calls the workload, so that it got what the pods answered.
	answered := map[string]uint64{analysistest.CanaryHash: 0, analysistest.StableHash: 0}
	for _, pod := range []string{analysistest.Stable1, analysistest.Stable2, analysistest.Canary1, analysistest.Canary2} {
		served, _ := of.Counters(pod)
		answered[analysistest.PodHash(pod)] += served.Requests
	}
	for hash, count := range answered {
		tally.Called = append(tally.Called, live.Called{
			Workload: analysistest.Namespace + "/" + analysistest.Name, Hash: hash, Answered: count, Lost: counters.Lost[hash],
		})
	}
	return tally
}
