// SPDX-License-Identifier: Apache-2.0

package live_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/live"
)

const (
	workload   = "shop/web"
	canaryHash = "ccc"
	stableHash = "sss"
)

func start() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func since(began time.Time) analysis.Query {
	return analysis.Query{
		Namespace: "shop", Workload: "web", CanaryHash: canaryHash, StableHash: stableHash,
		Since: began, Now: began.Add(24 * time.Hour), LatencyLimit: 450 * time.Millisecond,
	}
}

// proxy is one that counts truly, unless it is told to say something else.
type proxy struct {
	name, workload, hash string
	session, sequence    uint64
	began                time.Time
	served               live.Served
	called               map[string]live.Called
}

func newProxy(name, hash string, began time.Time) *proxy {
	p := &proxy{name: name, hash: hash, session: 1 + rand.Uint64N(math.MaxUint64), began: began, called: map[string]live.Called{}}
	if hash != "" {
		p.workload = workload
	}
	return p
}

func (p *proxy) restart(at time.Time) {
	p.session, p.sequence, p.began = p.session+1, 0, at
	p.served, p.called = live.Served{}, map[string]live.Called{}
}

// serve requests, of which some fail; the last of them are slow.
func (p *proxy) serve(good, bad, slow uint64) {
	p.served.Succeeded += good
	p.served.Failed += bad
	p.served.Latencies[15] += slow // up to a second
	p.served.Latencies[6] += good + bad - slow
}

func (p *proxy) call(hash string, answered, lost uint64) {
	of := p.called[hash]
	p.called[hash] = live.Called{Workload: workload, Hash: hash, Answered: of.Answered + answered, Lost: of.Lost + lost}
}

func (p *proxy) tally(at time.Time) live.Tally {
	p.sequence++
	tally := live.Tally{
		Reporter: "shop/" + p.name, Workload: p.workload, Hash: p.hash, Session: p.session, Age: at.Sub(p.began), Sequence: p.sequence, At: at, Served: p.served,
	}
	for _, of := range p.called {
		tally.Called = append(tally.Called, of)
	}
	return tally
}

// total of complete rounds.
func total(t *testing.T, ledger *live.Ledger, query analysis.Query) (sum analysis.Round) {
	t.Helper()
	rounds, err := ledger.Rounds(query)
	require.NoError(t, err)
	end := query.Since
	for _, round := range rounds {
		require.True(t, round.End.After(end), "rounds follow each other")
		if end = round.End; round.Open {
			continue
		}
		sum.Canary, sum.Stable = plus(sum.Canary, round.Canary), plus(sum.Stable, round.Stable)
		sum.CanaryCold, sum.StableCold = plus(sum.CanaryCold, round.CanaryCold), plus(sum.StableCold, round.StableCold)
		requireWhole(t, round)
	}
	sum.End = end
	return sum
}

// requireWhole: the parts of a round make no more than the round.
func requireWhole(t *testing.T, round analysis.Round) {
	t.Helper()
	for _, of := range []struct {
		all, cold analysis.Counts
		pods      []analysis.Counts
	}{{round.Canary, round.CanaryCold, round.CanaryPods}, {round.Stable, round.StableCold, round.StablePods}} {
		var pods analysis.Counts
		for _, pod := range of.pods {
			pods = plus(pods, pod)
		}
		for _, part := range []analysis.Counts{of.cold, pods} {
			require.LessOrEqual(t, part.Requests, of.all.Requests)
			require.LessOrEqual(t, part.Errors, of.all.Errors)
			require.LessOrEqual(t, part.Slow, of.all.Slow)
		}
		require.LessOrEqual(t, of.all.Errors, of.all.Requests)
		require.LessOrEqual(t, of.all.Slow, of.all.Requests)
	}
}

func plus(a, b analysis.Counts) analysis.Counts {
	return analysis.Counts{
		Requests: a.Requests + b.Requests, Errors: a.Errors + b.Errors, Slow: a.Slow + b.Slow,
		Over: [2]uint64{a.Over[0] + b.Over[0], a.Over[1] + b.Over[1]},
	}
}

// Whatever a network does to tallies, what was counted is in the rounds once: those that are lost, late
// or doubled change when it is there and nothing else.
func TestDeliveryDoesNotMatter(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		began := start()
		proxies := []*proxy{
			newProxy("s1", stableHash, began.Add(-time.Hour)), newProxy("s2", stableHash, began.Add(-time.Minute)), newProxy("c1", canaryHash, began.Add(-time.Second)),
		}
		ledger := live.NewLedger()
		for _, p := range proxies {
			p.serve(random.Uint64N(1000), 7, 3) // before anybody listened
			ledger.Add(p.tally(began))
		}
		var want [2]analysis.Counts
		now := began
		var underWay []live.Tally
		for second := range 60 {
			now = now.Add(time.Second)
			if second == 20 {
				proxies = append(proxies, newProxy("c2", canaryHash, now))
			}
			for i, p := range proxies {
				if second < 50 {
					good, bad := random.Uint64N(20), random.Uint64N(3)
					slow := random.Uint64N(good + bad + 1)
					p.serve(good, bad, slow)
					arm := i / 2 // s1 and s2, c1 and c2
					want[arm] = plus(want[arm], analysis.Counts{Requests: good + bad, Errors: bad, Slow: slow})
				}
				underWay = append(underWay, p.tally(now))
			}
			var kept []live.Tally
			for _, tally := range underWay {
				switch random.IntN(6) {
				case 0: // late, and so out of order
					kept = append(kept, tally)
				case 1: // lost
				case 2: // came by two ways
					tally.At = now
					ledger.Add(tally)
					tally.At = now.Add(-300 * time.Millisecond)
					ledger.Add(tally)
				default:
					tally.At = now
					ledger.Add(tally)
				}
			}
			underWay = kept
		}
		for range 3 {
			now = now.Add(time.Second)
			for _, p := range proxies {
				ledger.Add(p.tally(now))
			}
		}
		got := total(t, ledger, since(began))
		require.Equal(t, want[0], got.Stable, "seed %d", seed)
		require.Equal(t, want[1], got.Canary, "seed %d", seed)
	}
}

// A look asks for what came since the one before: together they see what one look at all sees.
func TestLooksAddUp(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 2))
		began := start()
		ledger := live.NewLedger()
		stable, canary := newProxy("s1", stableHash, began.Add(-time.Hour)), newProxy("c1", canaryHash, began.Add(-time.Hour))
		query := since(began)
		var seen []analysis.Round
		for second := range 120 {
			now := began.Add(time.Duration(second) * time.Second)
			for _, p := range []*proxy{stable, canary} {
				p.serve(random.Uint64N(50), random.Uint64N(5), 0)
				if random.IntN(5) > 0 {
					ledger.Add(p.tally(now.Add(time.Duration(random.IntN(900)) * time.Millisecond)))
				}
			}
			if random.IntN(3) == 0 {
				query.Now = now.Add(time.Second)
				rounds, err := ledger.Rounds(query)
				require.NoError(t, err)
				for _, round := range rounds {
					if !round.Open {
						seen = append(seen, round)
						query.After = round.End
					}
				}
			}
		}
		query = since(began)
		query.Now = seen[len(seen)-1].End
		all, err := ledger.Rounds(query)
		require.NoError(t, err)
		all = slices.DeleteFunc(all, func(round analysis.Round) bool { return round.Open })
		require.Equal(t, all, seen, "seed %d", seed)
	}
}

// A pod that begins anew counts from 0, and the tallies of its past do no harm.
func TestRestart(t *testing.T) {
	began := start()
	ledger := live.NewLedger()
	stable, canary := newProxy("s1", stableHash, began), newProxy("c1", canaryHash, began)
	at := func(second int) time.Time { return began.Add(time.Duration(second) * time.Second) }
	add := func(second int, proxies ...*proxy) {
		for _, p := range proxies {
			ledger.Add(p.tally(at(second)))
		}
	}
	add(0, stable, canary)
	canary.serve(100, 10, 5)
	add(1, stable, canary)
	past := canary.tally(at(1))
	canary.restart(at(2))
	canary.serve(3, 1, 0)
	add(2, stable, canary)
	past.At = at(3)
	ledger.Add(past)
	add(3, stable, canary)
	require.Equal(t, analysis.Counts{Requests: 114, Errors: 11, Slow: 5}, total(t, ledger, since(began)).Canary)
	// A counter that falls was never true, and is none from there on.
	canary.served = live.Served{Succeeded: 1}
	add(4, stable, canary)
	canary.served = live.Served{Succeeded: 5}
	add(5, stable, canary)
	require.Equal(t, analysis.Counts{Requests: 118, Errors: 11, Slow: 5}, total(t, ledger, since(began)).Canary)
}

// The proxies that a controller which starts in the midst of a run finds are older than what it knows.
func TestOldCountsAreNotCounted(t *testing.T) {
	began := start()
	ledger := live.NewLedger()
	stable, canary, late := newProxy("s1", stableHash, began.Add(-time.Hour)), newProxy("c1", canaryHash, began.Add(-time.Hour)), newProxy("c2", canaryHash, began.Add(-time.Hour))
	for _, p := range []*proxy{stable, canary, late} {
		p.serve(1000, 500, 0)
	}
	ledger.Add(stable.tally(began))
	ledger.Add(canary.tally(began.Add(time.Second)))
	ledger.Add(late.tally(began.Add(20 * time.Second)))
	canary.serve(1, 0, 0)
	for _, p := range []*proxy{stable, canary, late} {
		ledger.Add(p.tally(began.Add(21 * time.Second)))
	}
	sum := total(t, ledger, since(began.Add(-time.Minute)))
	require.Equal(t, analysis.Counts{Requests: 1}, sum.Canary)
	require.Zero(t, sum.Stable)
}

// While a revision is silent no round ends; what the other did meanwhile is in the next.
func TestSilentRevision(t *testing.T) {
	began := start()
	ledger := live.NewLedger()
	stable, canary, other := newProxy("s1", stableHash, began), newProxy("c1", canaryHash, began), newProxy("s2", stableHash, began)
	for second := range 30 {
		now := began.Add(time.Duration(second) * time.Second)
		stable.serve(10, 0, 0)
		other.serve(1, 0, 0)
		ledger.Add(stable.tally(now))
		if second < 5 || second > 20 {
			ledger.Add(canary.tally(now))
		}
		if second < 10 {
			ledger.Add(other.tally(now))
		}
		rounds, err := ledger.Rounds(since(began))
		require.NoError(t, err)
		switch second {
		case 20:
			require.LessOrEqual(t, rounds[len(rounds)-1].End.Sub(began), 5*time.Second)
		case 22:
			require.Equal(t, now, rounds[len(rounds)-1].End)
		}
	}
	sum := total(t, ledger, since(began))
	require.EqualValues(t, 10*29+9, sum.Stable.Requests, "all but the first second, which nobody had seen begin")
	require.Equal(t, live.Coverage{Reporting: 2, Known: 4}, ledger.Coverage(workload, []string{"shop/s1", "shop/c1", "shop/s2", "shop/x"}, began.Add(29*time.Second)))
	require.Equal(t, "from 2 of 4 proxies", live.Coverage{Reporting: 2, Known: 4}.String())
	ledger.Forget(began.Add(time.Hour))
	rounds, err := ledger.Rounds(since(began))
	require.NoError(t, err)
	require.Empty(t, rounds)
}

// A canary whose pods are cold fails for no latency, so a round says what was cold.
func TestCold(t *testing.T) {
	began := start()
	ledger := live.NewLedger()
	stable := newProxy("s1", stableHash, began.Add(-time.Hour))
	var canary *proxy
	for second := range 60 {
		now := began.Add(time.Duration(second) * time.Second)
		if second == 5 {
			canary = newProxy("c1", canaryHash, now)
		}
		stable.serve(10, 0, 1)
		ledger.Add(stable.tally(now))
		if canary != nil {
			if second >= 10 {
				canary.serve(2, 0, 1)
			}
			ledger.Add(canary.tally(now))
		}
	}
	sum := total(t, ledger, since(began))
	require.EqualValues(t, 100, sum.Canary.Requests)
	require.EqualValues(t, 60, sum.CanaryCold.Requests, "30 s of them")
	require.Zero(t, sum.StableCold)
}
