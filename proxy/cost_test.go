// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

func TestEstimates(t *testing.T) {
	const decay = tick(10_000)
	third := math.Exp(-1)
	e := estimate{value: 1}
	require.InDelta(t, 1, e.at(0), 1e-6)
	require.InDelta(t, third, e.at(decay), 1e-6, "it fades")
	require.InDelta(t, 1, e.at(math.MaxUint32), 1e-6, "another processor's clock is a little behind")
	require.InDelta(t, third, estimate{value: 1, since: math.MaxUint32 - 99}.at(decay-100), 1e-6, "the clock comes round")

	require.Equal(t, estimate{value: 2, since: 5}, e.peak(5, 2), "a peak is believed at once")
	require.InDelta(t, third+0.1*(1-third), float64(e.peak(decay, 0.1).value), 1e-6, "what is below it is not")
	require.Equal(t, e, e.peak(0, 0.1), "how often somebody is asked does not count")
	require.Equal(t, e, e.atLeast(decay, 0.1), "that somebody has not answered yet is no good sign")
	require.Equal(t, estimate{value: 2, since: 5}, e.atLeast(5, 2))
	require.InDelta(t, third, float64(e.mean(decay, 0).value), 1e-6)
	require.InDelta(t, 1, float64(e.mean(decay, 1).value), 1e-6)
}

func FuzzEstimates(f *testing.F) {
	f.Add(uint32(1), uint32(2), 0.1, 0.2)
	f.Fuzz(func(t *testing.T, one, other uint32, before, sample float64) {
		if !(before >= 0 && before < 1e6 && sample >= 0 && sample < 1e6) {
			t.Skip()
		}
		e := estimate{value: float32(before), since: tick(one)}
		low, high := min(float32(before), float32(sample)), max(float32(before), float32(sample))
		for _, next := range []estimate{e.mean(tick(other), sample), e.peak(tick(other), sample), e.atLeast(tick(other), sample)} {
			require.GreaterOrEqual(t, next.value, low*(1-1e-6))
			require.LessOrEqual(t, next.value, high*(1+1e-6))
			var s shared
			s.store(next)
			require.Equal(t, next, s.load())
			require.LessOrEqual(t, next.at(tick(one+other)), float64(next.value))
		}
	})
}

// simulated is a pod that a simulation sends requests to.
type simulated struct {
	takes func(now time.Duration) time.Duration
	fails func(now time.Duration) bool
	got   int
}

func steady(takes time.Duration) *simulated {
	return &simulated{takes: func(time.Duration) time.Duration { return takes }}
}

func failing(takes time.Duration) *simulated {
	pod := steady(takes)
	pod.fails = func(time.Duration) bool { return true }
	return pod
}

// until is a pod that is like one until some time, and like another from then on.
func until(when time.Duration, before, after *simulated) *simulated {
	at := func(now time.Duration) *simulated {
		if now < when {
			return before
		}
		return after
	}
	return &simulated{
		takes: func(now time.Duration) time.Duration { return at(now).takes(now) },
		fails: func(now time.Duration) bool { return at(now).fails != nil && at(now).fails(now) },
	}
}

// under is a request that is open.
type under struct {
	ends, began time.Duration
	pod         *simulated
	load        *load
}

type underWay []under

func (u underWay) Len() int           { return len(u) }
func (u underWay) Less(i, j int) bool { return u[i].ends < u[j].ends }
func (u underWay) Swap(i, j int)      { u[i], u[j] = u[j], u[i] }
func (u *underWay) Push(x any)        { *u = append(*u, x.(under)) } //nolint:forcetypeassert // As heap has it.
func (u *underWay) Pop() any {
	last := (*u)[len(*u)-1]
	*u = (*u)[:len(*u)-1]
	return last
}

// simulate sends requests, by chance so many per second, to pods for a time, and returns the share that
// each got from some time on.
func simulate(pods []*simulated, perSecond float64, from, to time.Duration, judged bool) []float64 {
	random := rand.New(rand.NewPCG(1, uint64(len(pods))))
	began := time.Unix(1, 0)
	now := time.Duration(0)
	b := newBalancer(func() time.Time { return began.Add(now) })
	var all []*mesh.Endpoint
	of := map[string]*simulated{}
	for i, pod := range pods {
		address := fmt.Sprintf("10.0.0.%d:80", i)
		all = append(all, &mesh.Endpoint{Address: address})
		of[address] = pod
	}
	var open underWay
	end := func(until time.Duration) {
		for len(open) > 0 && open[0].ends <= until {
			done := heap.Pop(&open).(under) //nolint:forcetypeassert // Nothing else is pushed.
			now = done.ends
			failed := done.pod.fails != nil && done.pod.fails(done.began)
			done.load.met.answered(b.now(), done.ends-done.began, failed)
			done.load.met.ended(b.now(), failed)
			done.load.release()
		}
		now = until
	}
	sent := 0
	for at := time.Duration(0); at < to; at += time.Duration(random.ExpFloat64() / perSecond * float64(time.Second)) {
		end(at)
		endpoint := b.pick([]tier{{endpoints: all}}, &tries{judged: judged}, random.Float64)
		pod := of[endpoint.Address]
		if at >= from {
			pod.got++
			sent++
		}
		heap.Push(&open, under{ends: at + pod.takes(at), began: at, pod: pod, load: b.claim(endpoint.Address, 0)})
	}
	var shares []float64
	for _, pod := range pods {
		shares = append(shares, float64(pod.got)/float64(sent))
	}
	return shares
}

func TestWhoGetsHowMuch(t *testing.T) {
	const quick, slow, at = 10 * time.Millisecond, 100 * time.Millisecond, 100 * time.Microsecond
	minute := time.Minute
	for perSecond, span := range map[float64]time.Duration{1: 40 * minute, 100: 4 * minute, 1000: minute} {
		for name, test := range map[string]struct {
			pods   []*simulated
			from   time.Duration
			judged bool
			// The first pod's share.
			least, most float64
		}{
			"pods that are alike":                           {[]*simulated{steady(quick), steady(quick), steady(quick), steady(quick)}, 0, false, 0.18, 0.32},
			"a slow pod gets less":                          {[]*simulated{steady(slow), steady(quick), steady(quick), steady(quick)}, 0, false, 0, 0.2},
			"while it is judged what is open decides":       {[]*simulated{steady(slow), steady(quick), steady(quick), steady(quick)}, 0, true, 0, 0.3},
			"so that it is seen":                            {[]*simulated{steady(slow), steady(quick), steady(quick), steady(quick)}, 0, true, 0.02, 1},
			"a pod that fails at once attracts nothing":     {[]*simulated{failing(at), steady(quick), steady(quick), steady(quick)}, 0, false, 0, 0.15},
			"while it is judged it gets its even share":     {[]*simulated{failing(at), steady(slow), steady(slow), steady(slow)}, 0, true, 0.22, 0.28},
			"whatever the others take":                      {[]*simulated{failing(at), steady(at), steady(at), steady(at)}, 0, true, 0.22, 0.28},
			"one of two":                                    {[]*simulated{failing(at), steady(quick)}, 0, true, 0.46, 0.54},
			"and all fail alike":                            {[]*simulated{failing(at), failing(at)}, 0, false, 0.4, 0.6},
			"a pod that was slow comes back":                {[]*simulated{until(minute, steady(slow), steady(quick)), steady(quick), steady(quick), steady(quick)}, 3 * minute, false, 0.18, 0.32},
			"a pod that failed comes back":                  {[]*simulated{until(minute, failing(at), steady(quick)), steady(quick), steady(quick), steady(quick)}, 3 * minute, false, 0.18, 0.32},
			"a pod that becomes slow is left":               {[]*simulated{until(minute, steady(quick), steady(time.Second)), steady(quick), steady(quick), steady(quick)}, minute, false, 0, 0.1},
			"a pod that begins to fail is left":             {[]*simulated{until(minute, steady(quick), failing(at)), steady(quick), steady(quick), steady(quick)}, minute, false, 0, 0.15},
			"fast answers below a millisecond are the same": {[]*simulated{steady(at), steady(5 * at), steady(5 * at), steady(5 * at)}, minute, false, 0.18, 0.32},
		} {
			t.Run(fmt.Sprintf("%s, %v a second", name, perSecond), func(t *testing.T) {
				t.Parallel()
				shares := simulate(test.pods, perSecond, test.from, test.from+span, test.judged)
				require.GreaterOrEqual(t, shares[0], test.least, shares)
				require.LessOrEqual(t, shares[0], test.most, shares)
			})
		}
	}
}
