// SPDX-License-Identifier: Apache-2.0

package live_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/live"
)

// town is a workload with two revisions and callers whose requests its pods answer.
type town struct {
	random         *rand.Rand
	began, now     time.Time
	ledger         *live.Ledger
	stable, canary *proxy
	callers        []*proxy
	rates          []float64 // requests/s of each caller
	share          float64   // of the canary
	// lose decides whether a request to a revision is lost on its way.
	lose func(caller int, hash string) bool
	// sent and lost truly, by revision.
	sent, lost map[string]uint64
}

func newTown(seed uint64, rates ...float64) *town {
	w := &town{
		random: rand.New(rand.NewPCG(seed, 5)), began: start(), now: start(), ledger: live.NewLedger(), rates: rates, share: 0.2,
		lose: func(int, string) bool { return false }, sent: map[string]uint64{}, lost: map[string]uint64{},
	}
	old := w.began.Add(-time.Hour)
	w.stable, w.canary = newProxy("s1", stableHash, old), newProxy("c1", canaryHash, old)
	for i := range rates {
		w.callers = append(w.callers, newProxy("caller-"+string(rune('a'+i)), "", old))
	}
	return w
}

// live for some seconds. The proxies report in any order, and what a liar says instead.
func (w *town) live(seconds int, lie func(caller int, p *proxy)) {
	for range seconds {
		w.now = w.now.Add(time.Second)
		for i, p := range w.callers {
			for range int(w.rates[i]) + w.chance(w.rates[i]-math.Floor(w.rates[i])) {
				w.request(i, p)
			}
			if lie != nil {
				lie(i, p)
			}
		}
		proxies := append([]*proxy{w.stable, w.canary}, w.callers...)
		w.random.Shuffle(len(proxies), func(i, j int) { proxies[i], proxies[j] = proxies[j], proxies[i] })
		for _, p := range proxies {
			w.ledger.Add(p.tally(w.now))
		}
		w.ledger.Share(workload, map[string]float64{canaryHash: w.share, stableHash: 1 - w.share})
	}
}

func (w *town) chance(p float64) int {
	if w.random.Float64() < p {
		return 1
	}
	return 0
}

func (w *town) request(caller int, p *proxy) {
	hash, pod := stableHash, w.stable
	if w.random.Float64() < w.share {
		hash, pod = canaryHash, w.canary
	}
	w.sent[hash]++
	if w.lose(caller, hash) {
		w.lost[hash]++
		p.call(hash, 0, 1)
		return
	}
	pod.serve(1, 0, 0)
	p.call(hash, 1, 0)
}

func (w *town) counted(t *testing.T) (canary, stable analysis.Counts) {
	t.Helper()
	sum := total(t, w.ledger, since(w.began))
	return sum.Canary, sum.Stable
}

// What callers lose of a revision that others get answers from counts whole.
func TestLossesCount(t *testing.T) {
	for seed := range uint64(5) {
		w := newTown(seed, 20, 30, 5)
		w.live(30, nil)
		w.lose = func(_ int, hash string) bool { return hash == canaryHash && w.random.Float64() < 0.3 }
		w.live(30, nil)
		w.lose = func(int, string) bool { return false }
		w.live(2, nil)
		canary, stable := w.counted(t)
		require.NotZero(t, w.lost[canaryHash])
		require.InDelta(t, w.lost[canaryHash], canary.Errors, 5, "but for the rounds at the ends")
		require.Zero(t, stable.Errors)
	}
}

// A canary that answers nobody is known by what callers get from stable.
func TestLossesOfADeadCanaryCount(t *testing.T) {
	for seed := range uint64(5) {
		w := newTown(seed, 20, 30, 5)
		w.lose = func(_ int, hash string) bool { return hash == canaryHash }
		w.live(40, nil)
		canary, stable := w.counted(t)
		require.Greater(t, w.lost[canaryHash], uint64(300))
		require.Greater(t, canary.Errors, w.lost[canaryHash]*3/4)
		require.Equal(t, canary.Requests, canary.Errors)
		require.Zero(t, stable.Errors)
	}
}

// A liar is believed as far as its share of the requests goes, whatever it makes up.
func TestLiarMovesNoMoreThanItsShare(t *testing.T) {
	lies := map[string]func(*proxy){
		"losses":                  func(p *proxy) { p.call(canaryHash, 0, 1000) },
		"losses out of any range": func(p *proxy) { p.call(canaryHash, 0, 1<<62) },
		"losses and answers":      func(p *proxy) { p.call(canaryHash, 1000, 1000) },
		"answers without end":     func(p *proxy) { p.call(canaryHash, 1<<61, 1<<61) },
		"others' answers too":     func(p *proxy) { p.call(canaryHash, 10, 50) },
		"stable's answers":        func(p *proxy) { p.call(canaryHash, 0, 50); p.call(stableHash, 5000, 0) },
	}
	for name, lie := range lies {
		for seed := range uint64(5) {
			w := newTown(seed, 5, 60, 35) // the first has a twentieth of the requests
			w.live(120, func(caller int, p *proxy) {
				if caller == 0 {
					lie(p)
				}
			})
			canary, stable := w.counted(t)
			answered := float64(w.sent[canaryHash])
			require.LessOrEqual(t, float64(canary.Errors), 0.05*answered+5*math.Sqrt(0.05*answered)+5, "%s, seed %d", name, seed)
			require.Zero(t, stable.Errors)
		}
	}
}

// A caller that fails on both revisions has trouble of its own and counts for neither.
func TestCallerInTroubleIsSetAside(t *testing.T) {
	for seed := range uint64(5) {
		w := newTown(seed, 20, 20)
		w.share = 0.5
		w.live(20, nil)
		w.lose = func(caller int, _ string) bool { return caller == 1 && w.random.Float64() < 0.5 }
		w.live(60, nil)
		canary, stable := w.counted(t)
		require.Greater(t, w.lost[canaryHash], uint64(100))
		require.Less(t, canary.Errors, w.lost[canaryHash]/4, "but for times in which by chance it lost few of the other's")
		require.Less(t, stable.Errors, w.lost[stableHash]/4)
	}
}

// A caller whose session is older than the account, because it calls another workload in a run, says of a
// revision only what came since it named it first: a revision that is tried again had requests before.
func TestLossesOfAnEarlierRunDoNotCount(t *testing.T) {
	began := start()
	for name, first := range map[string][]string{"named late": {stableHash}, "named, and not for a while": {stableHash, canaryHash}} {
		ledger := live.NewLedger()
		stable, canary, caller := newProxy("s1", stableHash, began.Add(-time.Hour)), newProxy("c1", canaryHash, began), newProxy("x", "", began.Add(-time.Hour))
		caller.call(stableHash, 1000, 0)
		caller.call(canaryHash, 900, 100)
		known := caller.called
		for second := range 20 {
			at := began.Add(time.Duration(second) * time.Second)
			caller.called = known
			if second < 5 {
				caller.called = map[string]live.Called{}
				for _, hash := range first[:max(1, len(first)-second)] {
					caller.called[hash] = known[hash]
				}
			}
			stable.serve(90, 0, 0)
			canary.serve(10, 0, 0)
			for _, p := range []*proxy{stable, canary, caller} {
				ledger.Add(p.tally(at))
			}
			ledger.Share(workload, map[string]float64{canaryHash: 0.1, stableHash: 0.9})
		}
		sum := total(t, ledger, since(began))
		require.NotZero(t, sum.Canary.Requests, name)
		require.Zero(t, sum.Canary.Errors, name)
	}
}

// A proxy that names itself in others' workloads, or nobody's, begins no account and moves none.
func TestOthersBeginNoAccount(t *testing.T) {
	ledger := live.NewLedger()
	began := start()
	caller := newProxy("x", "", began)
	for second := range 10 {
		caller.call(canaryHash, 100, 100)
		caller.call("", 100, 100)
		require.False(t, ledger.Add(caller.tally(began.Add(time.Duration(second)*time.Second))))
	}
	rounds, err := ledger.Rounds(since(began))
	require.NoError(t, err)
	require.Empty(t, rounds)
}

func TestQueryProblems(t *testing.T) {
	for want, change := range map[string]func(*analysis.Query){
		"the hashes of both revisions are needed": func(q *analysis.Query) { q.StableHash = "" },
		`both revisions have the hash "ccc"`:      func(q *analysis.Query) { q.StableHash = q.CanaryHash },
		"is not before now":                       func(q *analysis.Query) { q.Now = q.Since.Add(-time.Second) },
		"below the lowest bucket edge":            func(q *analysis.Query) { q.LatencyLimit = time.Microsecond },
	} {
		query := since(start())
		change(&query)
		_, err := live.NewLedger().Rounds(query)
		require.ErrorContains(t, err, want)
	}
}
