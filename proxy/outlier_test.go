// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

func byDefault() *mesh.OutlierEjection {
	return &mesh.OutlierEjection{
		ConsecutiveFailures: 5, Interval: 10_000, MinRequests: 100, MinEndpoints: 5,
		BaseTime: 30_000, MaxTime: 300_000, MaxPercent: 50,
	}
}

func TestOutliers(t *testing.T) {
	of := func(failures ...uint32) (all []answers) {
		for _, failed := range failures {
			all = append(all, answers{100, failed})
		}
		return all
	}
	for name, test := range map[string]struct {
		all    []answers
		change func(*mesh.OutlierEjection)
		want   []int
	}{
		"nobody":                             {},
		"all are perfect":                    {all: of(0, 0, 0, 0, 0)},
		"all fail":                           {all: of(100, 100, 100, 100, 100)},
		"one of five fails":                  {all: of(0, 0, 100, 0, 0), want: []int{2}},
		"half of the time":                   {all: of(0, 0, 0, 0, 50), want: []int{4}},
		"one of ten times":                   {all: of(0, 0, 0, 0, 10), want: []int{4}},
		"one of a hundred times is too near": {all: of(0, 0, 0, 0, 1)},
		"and so are five":                    {all: of(0, 0, 0, 0, 5)},
		"one of four, who are too few":       {all: of(0, 0, 0, 100)},
		"two of ten":                         {all: of(0, 100, 0, 0, 0, 100, 0, 0, 0, 0), want: []int{1, 5}},
		"three of ten are a cause":           {all: of(100, 100, 100, 0, 0, 0, 0, 0, 0, 0)},
		"where all fail often one is the last": {
			all: of(15, 20, 22, 18, 30, 20, 21, 19, 20, 20, 17, 22),
		},
		"but not that far behind": {
			all: of(15, 20, 22, 18, 60, 20, 21, 19, 20, 20, 17, 22), want: []int{4},
		},
		"who had too few requests is not compared": {
			all: append(of(0, 0, 0, 0, 0), answers{99, 99}),
		},
		"and does not count": {
			all: append(of(0, 0, 0, 100), answers{99, 0}),
		},
		"nobody is to be compared": {
			all: of(0, 0, 100, 0, 0), change: func(p *mesh.OutlierEjection) { p.MinRequests = 0 },
		},
		"of a newer version, which asks for less": {
			all: []answers{{}, {}}, change: func(p *mesh.OutlierEjection) { p.MinRequests, p.MinEndpoints = 1, 0 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			policy := byDefault()
			if test.change != nil {
				test.change(policy)
			}
			require.Equal(t, test.want, outliers(test.all, policy))
		})
	}
}

func TestMostEjected(t *testing.T) {
	for _, test := range []struct{ endpoints, percent, want int }{
		{0, 50, -1}, {1, 50, 0}, {2, 50, 1}, {3, 50, 1}, {4, 50, 2}, {5, 50, 2}, {10, 10, 1}, {3, 10, 1}, {2, 100, 1}, {10, 100, 9},
	} {
		require.Equal(t, test.want, mostEjected(test.endpoints, uint32(test.percent)), "%d %% of %d", test.percent, test.endpoints) //nolint:gosec // As above.
	}
}

func TestEjectionTime(t *testing.T) {
	policy := byDefault()
	for nth, want := range map[int]time.Duration{
		0: 30 * time.Second, 1: 30 * time.Second, 2: time.Minute, 3: 90 * time.Second, 10: 5 * time.Minute, 1 << 40: 5 * time.Minute,
	} {
		require.Equal(t, want, ejectionTime(policy, nth, 0), nth)
	}
	require.Equal(t, 36*time.Second, ejectionTime(policy, 1, 0.8))
	policy.MaxTime = 0
	require.Equal(t, 30*time.Second, ejectionTime(policy, 7, 0))
}

// court is a proxy's ejections with a clock of its own, and endpoints of one workload.
type court struct {
	t         *testing.T
	proxy     *Proxy
	policy    *mesh.OutlierEjection
	now       time.Time
	endpoints []mesh.Endpoint
	splits    []mesh.Split
}

const courtAddress = "10.9.9.9:80"

func newCourt(t *testing.T, endpoints int) *court {
	c := &court{t: t, policy: byDefault(), now: time.Unix(1_000_000, 0)}
	for i := range endpoints {
		c.endpoints = append(c.endpoints, endpoint(fmt.Sprintf("10.0.0.%d:80", i), "n/a", "s"))
	}
	c.proxy = New(Options{Now: func() time.Time { return c.now }, Log: slog.New(slog.DiscardHandler)})
	c.publish()
	return c
}

func (c *court) publish() {
	to := &mesh.Destination{
		Address: courtAddress, Service: mesh.Service{Namespace: "n", Name: "a", Port: 80},
		Endpoints: c.endpoints, Splits: c.splits, OutlierEjection: c.policy,
	}
	c.proxy.config.set(&mesh.Snapshot{Destinations: map[string]*mesh.Destination{courtAddress: to}})
}

// ask sends requests, which fail at some endpoints, and returns how many each got.
func (c *court) ask(requests int, fails ...string) map[string]int {
	c.t.Helper()
	got := map[string]int{}
	for range requests {
		choose := chooserTo(c.proxy, courtAddress)
		to, ok := choose.next()
		require.True(c.t, ok)
		got[to.address]++
		failed := false
		for _, address := range fails {
			failed = failed || address == to.address
		}
		if to.conduct != nil {
			to.conduct.ended(failed) // Without the balancer's penalty, which is another matter.
		}
		to.release()
	}
	return got
}

func (c *court) ejected(reason ejectionReason, outcome string) uint64 {
	return c.proxy.metrics.ejectionsOf(ejectionLabels{"n", "a", reason, outcome}).Load()
}

func (c *court) conduct(address string) *conduct {
	return c.proxy.ejections.conduct(mesh.Service{Namespace: "n", Name: "a"}, address)
}

func TestFailuresInARowLeaveAnEndpointOut(t *testing.T) {
	c := newCourt(t, 3)
	const bad = "10.0.0.1:80"
	got := c.ask(300, bad)
	require.Equal(t, 5, got[bad], "five failures, and no more")
	require.EqualValues(t, 1, c.ejected(ejectedInRow, ejectionMade))
	require.Equal(t, map[mesh.Service]int{{Namespace: "n", Name: "a"}: 1}, c.proxy.ejections.left(c.now))
	c.now = c.now.Add(29 * time.Second)
	require.Zero(t, c.ask(100, bad)[bad], "its time is not over")
	c.now = c.now.Add(10 * time.Second)
	require.Empty(t, c.proxy.ejections.left(c.now))
	require.Equal(t, 5, c.ask(300, bad)[bad], "it fails again")
	c.now = c.now.Add(59 * time.Second)
	require.Zero(t, c.ask(100, bad)[bad], "for twice as long")
	c.now = c.now.Add(30 * time.Second)
	require.InDelta(t, 100, c.ask(300)[bad], 40, "it is well again")
	for range 3 { // Each interval in which it answers makes the next time shorter.
		c.now = c.now.Add(10 * time.Second)
		c.ask(30)
	}
	require.Equal(t, 5, c.ask(300, bad)[bad])
	c.now = c.now.Add(40 * time.Second)
	require.NotZero(t, c.ask(100)[bad], "back after the base time")
}

func TestASuccessEndsARow(t *testing.T) {
	c := newCourt(t, 2)
	for range 50 {
		for range 4 {
			choose := chooserTo(c.proxy, courtAddress)
			to, _ := choose.next()
			to.conduct.ended(true)
			to.release()
		}
		for _, one := range c.proxy.ejections.of {
			one.ended(false)
		}
	}
	require.Zero(t, c.ejected(ejectedInRow, ejectionMade))
}

func TestHalfAreLeftOutAtMost(t *testing.T) {
	c := newCourt(t, 5)
	bad := []string{"10.0.0.0:80", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"}
	c.ask(500, bad...)
	require.EqualValues(t, 2, c.ejected(ejectedInRow, ejectionMade))
	require.NotZero(t, c.ejected(ejectedInRow, ejectionCapped))
	require.Len(t, c.ask(300, bad...), 3)

	var left []mesh.Endpoint
	for i := range c.endpoints { // Those that answer go.
		if c.conduct(c.endpoints[i].Address).isOut(c.now) {
			left = append(left, c.endpoints[i])
		}
	}
	require.Len(t, left, 2)
	c.endpoints = left
	c.publish()
	require.Len(t, c.ask(100), 2, "and those that were left out must serve")
}

func TestTheOnlyOneStays(t *testing.T) {
	c := newCourt(t, 1)
	require.Len(t, c.ask(100, "10.0.0.0:80"), 1)
	require.Zero(t, c.ejected(ejectedInRow, ejectionMade))
}

func TestWhoFailsMoreOftenIsLeftOut(t *testing.T) {
	c := newCourt(t, 6)
	c.policy.ConsecutiveFailures = 0
	const bad = "10.0.0.1:80"
	fill := func(failures uint32) {
		for _, one := range c.endpoints {
			for i := range uint32(200) {
				c.conduct(one.Address).ended(one.Address == bad && i < failures)
			}
		}
	}
	c.ask(1) // Its first request begins an interval.
	fill(40)
	require.NotZero(t, c.ask(100)[bad], "the interval is not over")
	c.now = c.now.Add(10 * time.Second)
	require.Zero(t, c.ask(100)[bad])
	require.EqualValues(t, 1, c.ejected(ejectedByRate, ejectionMade))
	c.now = c.now.Add(40 * time.Second)
	require.NotZero(t, c.ask(100)[bad], "it comes back")
	c.now = c.now.Add(10 * time.Second)
	require.NotZero(t, c.ask(100)[bad], "and stays, as it is well")
	require.EqualValues(t, 1, c.ejected(ejectedByRate, ejectionMade))
}

// TestIntervals: what is counted in one is seen once, whoever looks, and an interval that ended before some
// request did takes nothing with it.
func TestIntervals(t *testing.T) {
	now, one := time.Unix(1_000_000, 0), &conduct{}
	count := func(requests, failures int) answers {
		for i := range requests {
			one.ended(i < failures)
		}
		return answers{uint32(requests), uint32(failures)} //nolint:gosec // As above.
	}
	count(3, 3)
	require.Equal(t, answers{}, one.whole(now, 100), "nobody knows when that began")
	want := count(10, 2)
	require.Equal(t, answers{}, one.whole(now, 100), "it is not over")
	require.Equal(t, want, one.whole(now, 101))
	want = count(20, 5)
	require.False(t, one.isDue(100, &mesh.OutlierEjection{}), "who looked at the clock just before begins none")
	require.Equal(t, answers{}, one.whole(now, 100))
	require.Equal(t, want, one.whole(now, 102))
	count(5, 0)
	require.Equal(t, answers{}, one.whole(now, 104), "of two intervals")
	count(5, 0)
	require.Equal(t, answers{}, one.whole(now, 50), "the clock was set back")
	want = count(5, 0)
	require.Equal(t, want, one.whole(now, 51))
	one.times = 2
	count(5, 5)
	one.whole(now, 52)
	require.Equal(t, 2, one.times, "it has not answered")
	count(5, 4)
	one.whole(now, 53)
	require.Equal(t, 1, one.times)
}

// TestNobodyIsLeftOutOfASplit: the gate must see what users of a revision would meet.
func TestNobodyIsLeftOutOfASplit(t *testing.T) {
	c := newCourt(t, 4)
	for i := range c.endpoints[2:] {
		c.endpoints[2+i].PodTemplateHash = "k"
	}
	bad := []string{"10.0.0.2:80", "10.0.0.3:80"}
	c.publish()
	require.Equal(t, 5, c.ask(200, bad...)[bad[0]])
	c.splits = []mesh.Split{weights("n/a", 50, 50)}
	c.publish()
	before := c.ejected(ejectedInRow, ejectionMade)
	got := c.ask(1000, bad...)
	require.InDelta(t, 500, got[bad[0]]+got[bad[1]], 80, "the canary has its share though all of it fails")
	require.InDelta(t, got[bad[0]], got[bad[1]], 120, "and each of its pods its own, who was left out before as well")
	require.Equal(t, before, c.ejected(ejectedInRow, ejectionMade))
	c.splits = nil
	c.publish()
	require.Less(t, c.ask(200, bad...)[bad[0]], 20, "after the run it is left out again")
}

// TestEjectionsMakeNoGarbage is for requests that are well.
func TestEjectionsMakeNoGarbage(t *testing.T) {
	c := newCourt(t, 4)
	from := &outboundSide{proxy: c.proxy, address: courtAddress}
	var choose chooser
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		choose.begin(c.proxy, from, outboundUnknown(), openCount{requests: 1})
		to, ok := choose.next()
		if !ok {
			t.Fatal("nowhere to go")
		}
		to.ended(c.now, false)
		to.release()
	}))
}

func TestConductsAreForgotten(t *testing.T) {
	c := newCourt(t, 3)
	c.ask(10)
	require.Len(t, c.proxy.ejections.of, 3)
	c.endpoints = c.endpoints[:2]
	c.publish()
	c.proxy.ejections.forget(c.proxy.config.Snapshot())
	require.Len(t, c.proxy.ejections.of, 2)
	c.policy = nil
	c.publish()
	c.proxy.ejections.forget(c.proxy.config.Snapshot())
	require.Empty(t, c.proxy.ejections.of)
}
