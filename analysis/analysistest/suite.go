// SPDX-License-Identifier: Apache-2.0

package analysistest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
)

const (
	// Namespace of the workload.
	Namespace = "shop"
	// Name of the workload.
	Name = "checkout"
	// LatencyLimit lies between two edges of the histogram; the stricter is 400 ms.
	LatencyLimit = 450 * time.Millisecond

	// patience is how long a Source may take to see what happened.
	patience = 2 * time.Minute
	interval = 100 * time.Millisecond
)

// Bench is a workload and a Source that reads what its pods count.
type Bench struct {
	Workload *Workload
	Source   analysis.Source
}

// TestSource holds a Source to the contract of analysis.Source. Each case gets a bench of its own.
func TestSource(t *testing.T, newBench func(t *testing.T) Bench) {
	cases := map[string]func(*testing.T, Bench){
		"counts both revisions since the run's start":  countsSinceStart,
		"counts what callers lost":                     countsLost,
		"counts a pod that is made in the run from 0":  countsNewPod,
		"counts on over a restart":                     countsOverRestart,
		"waits for a pod that is not scraped":          waitsForSilent,
		"knows nothing when a revision is not scraped": knowsNothingOfSilent,
		"knows nothing of what does not exist":         knowsNothingOfOthers,
	}
	for name, run := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, newBench(t))
		})
	}
}

func (b Bench) query(since time.Time) analysis.Query {
	return analysis.Query{
		Namespace: Namespace, Workload: Name, CanaryHash: CanaryHash, StableHash: StableHash,
		Since: since, Now: time.Now(), LatencyLimit: LatencyLimit,
	}
}

// eventually waits until the rounds add up.
func (b Bench) eventually(t *testing.T, since time.Time, canary, stable analysis.Counts) []analysis.Round {
	t.Helper()
	var rounds []analysis.Round
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var err error
		rounds, err = b.Source.Rounds(t.Context(), b.query(since))
		require.NoError(c, err)
		var sum analysis.Round
		for i, round := range rounds {
			if round.Open {
				continue
			}
			require.True(c, round.End.After(since) && (i == 0 || round.End.After(rounds[i-1].End)), "rounds follow each other")
			sum.Canary, sum.Stable = plus(sum.Canary, round.Canary), plus(sum.Stable, round.Stable)
		}
		require.Equal(c, canary, sum.Canary, "canary")
		require.Equal(c, stable, sum.Stable, "stable")
	}, patience, interval)
	return rounds
}

// begin starts a pod of stable with a past, and then a run with a pod of the canary.
func (b Bench) begin(t *testing.T) time.Time {
	t.Helper()
	before := time.Now()
	b.Workload.Start(Stable1, Canary1, Caller)
	require.Eventually(t, func() bool {
		rounds, err := b.Source.Rounds(t.Context(), b.query(before))
		return err == nil && len(rounds) > 0 // A source that is away is asked again.
	}, patience, interval)
	b.Workload.Serve(Stable1, analysis.Counts{Requests: 1000, Errors: 100, Slow: 10})
	b.eventually(t, before, analysis.Counts{}, analysis.Counts{Requests: 1000, Errors: 100, Slow: 10})
	return time.Now()
}

// lastEnd is when the last round ended.
func (b Bench) lastEnd(t *testing.T, since time.Time) time.Time {
	t.Helper()
	rounds, err := b.Source.Rounds(t.Context(), b.query(since))
	if err != nil || len(rounds) == 0 {
		return time.Time{}
	}
	if last := len(rounds) - 1; rounds[last].Open {
		rounds = rounds[:last]
	}
	if len(rounds) == 0 {
		return time.Time{}
	}
	return rounds[len(rounds)-1].End
}

func countsSinceStart(t *testing.T, b Bench) {
	since := b.begin(t)
	b.Workload.Serve(Stable1, analysis.Counts{Requests: 40, Errors: 2, Slow: 1})
	b.Workload.Serve(Canary1, analysis.Counts{Requests: 4, Errors: 3, Slow: 2})
	b.eventually(t, since, analysis.Counts{Requests: 4, Errors: 3, Slow: 2}, analysis.Counts{Requests: 40, Errors: 2, Slow: 1})
	b.Workload.Serve(Canary1, analysis.Counts{Requests: 1})
	b.eventually(t, since, analysis.Counts{Requests: 5, Errors: 3, Slow: 2}, analysis.Counts{Requests: 40, Errors: 2, Slow: 1})
}

func countsLost(t *testing.T, b Bench) {
	since := b.begin(t)
	b.Workload.Lose(CanaryHash, 7)
	b.Workload.Lose(StableHash, 2)
	b.Workload.Serve(Canary1, analysis.Counts{Requests: 3})
	b.eventually(t, since, analysis.Counts{Requests: 10, Errors: 7}, analysis.Counts{Requests: 2, Errors: 2})
	b.Workload.Lose(CanaryHash, 1)
	b.eventually(t, since, analysis.Counts{Requests: 11, Errors: 8}, analysis.Counts{Requests: 2, Errors: 2})
}

func countsNewPod(t *testing.T, b Bench) {
	since := b.begin(t)
	// It answers before anyone has scraped it.
	b.Workload.Serve(Canary2, analysis.Counts{Requests: 9, Errors: 9, Slow: 9})
	b.Workload.Start(Canary2)
	b.eventually(t, since, analysis.Counts{Requests: 9, Errors: 9, Slow: 9}, analysis.Counts{})
	b.Workload.Stop(Canary2)
	b.Workload.Serve(Stable1, analysis.Counts{Requests: 5})
	b.eventually(t, since, analysis.Counts{Requests: 9, Errors: 9, Slow: 9}, analysis.Counts{Requests: 5})
}

func countsOverRestart(t *testing.T, b Bench) {
	since := b.begin(t)
	b.Workload.Serve(Canary1, analysis.Counts{Requests: 50, Errors: 5, Slow: 5})
	b.eventually(t, since, analysis.Counts{Requests: 50, Errors: 5, Slow: 5}, analysis.Counts{})
	b.Workload.Restart(Canary1)
	b.Workload.Restart(Stable1)
	b.Workload.Serve(Canary1, analysis.Counts{Requests: 3, Errors: 1, Slow: 1})
	b.Workload.Serve(Stable1, analysis.Counts{Requests: 30})
	b.eventually(t, since, analysis.Counts{Requests: 53, Errors: 6, Slow: 6}, analysis.Counts{Requests: 30})
}

func waitsForSilent(t *testing.T, b Bench) {
	since := b.begin(t)
	b.Workload.Start(Stable2)
	b.Workload.Serve(Stable1, analysis.Counts{Requests: 1})
	b.eventually(t, since, analysis.Counts{}, analysis.Counts{Requests: 1})
	b.Workload.Silence(Stable1)
	b.Workload.Serve(Stable1, analysis.Counts{Requests: 10})
	b.Workload.Serve(Canary1, analysis.Counts{Requests: 2})
	// It is not waited for without end.
	b.eventually(t, since, analysis.Counts{Requests: 2}, analysis.Counts{Requests: 1})
	b.Workload.Unsilence(Stable1)
	b.eventually(t, since, analysis.Counts{Requests: 2}, analysis.Counts{Requests: 11})
}

func knowsNothingOfSilent(t *testing.T, b Bench) {
	since := b.begin(t)
	b.Workload.Serve(Canary1, analysis.Counts{Requests: 2})
	b.eventually(t, since, analysis.Counts{Requests: 2}, analysis.Counts{})
	b.Workload.Silence(Canary1)
	var end, changed time.Time
	require.Eventually(t, func() bool {
		if now := b.lastEnd(t, since); now.After(end) {
			end, changed = now, time.Now()
		}
		return time.Since(changed) > 2*time.Second
	}, patience, interval, "no more rounds end")
	b.Workload.Serve(Stable1, analysis.Counts{Requests: 100})
	served, last := time.Now(), end
	require.Eventually(t, func() bool { // The last look of require.Never would outlive the test.
		last = b.lastEnd(t, since)
		return last.After(end) || time.Since(served) > 3*time.Second
	}, patience, interval)
	require.False(t, last.After(end), "no round ends without the silent pod")
	b.Workload.Unsilence(Canary1)
	b.eventually(t, since, analysis.Counts{Requests: 2}, analysis.Counts{Requests: 100})
}

func knowsNothingOfOthers(t *testing.T, b Bench) {
	since := b.begin(t)
	for _, name := range []string{"other", `shop"} or {namespace=~".+`, "shop\\", "ünïcode\n"} {
		query := b.query(since)
		query.Namespace = name
		rounds, err := b.Source.Rounds(t.Context(), query)
		require.NoError(t, err, "namespace %q", name)
		require.Empty(t, rounds, "namespace %q", name)
		query = b.query(since)
		query.CanaryHash = name + ".*"
		rounds, err = b.Source.Rounds(t.Context(), query)
		require.NoError(t, err, "hash %q", name)
		require.Empty(t, rounds, "hash %q", name)
	}
}
