// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOverloadLeavesRoomForWhatIsDearer(t *testing.T) {
	for name, test := range map[string]struct {
		most                    uint32
		critical, ordinary, low uint32
	}{
		"any number": {0, 0, 0, 0},
		"one":        {1, 1, 1, 1},
		"few":        {4, 4, 3, 3},
		"hundred":    {100, 100, 90, 75},
		"most":       {1_000_000, 1_000_000, 900_000, 750_000},
	} {
		t.Run(name, func(t *testing.T) {
			of := &Overload{MaxParallelRequests: test.most}
			require.Equal(t, test.critical, of.MostOf(PriorityCritical))
			require.Equal(t, test.ordinary, of.MostOf(PriorityDefault))
			require.Equal(t, test.low, of.MostOf(PriorityLow))
			require.Equal(t, test.ordinary, of.MostOf("unheard of"))
		})
	}
}

func TestOverloadClasses(t *testing.T) {
	prefix := func(path string) []AccessRoute { return []AccessRoute{{Path: NewValueMatch("", MatchPrefix, path)}} }
	of := &Overload{
		Ports: []uint16{80},
		Classes: []TrafficClass{
			{Priority: PriorityCritical, Routes: prefix("/pay")},
			{Priority: PriorityLow, Routes: prefix("/updates")},
			{Priority: PriorityLow, Callers: &AccessRule{Identities: []string{"spiffe://a/ns/batch/sa/reports"}, Networks: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}}},
		},
		Probes: []Probe{{Port: 80, Method: "GET", Path: "/healthz"}},
	}
	reports := Caller{Identity: "spiffe://a/ns/batch/sa/reports"}
	for name, test := range map[string]struct {
		from  Caller
		path  string
		class int
	}{
		"the first":                {Caller{}, "/pay/card", 0},
		"whoever asks":             {reports, "/pay/card", 0},
		"by route":                 {Caller{}, "/updates/7", 1},
		"by identity":              {reports, "/", 2},
		"by network":               {Caller{Address: netip.MustParseAddr("10.9.1.1")}, "/", 2},
		"none":                     {Caller{Identity: "spiffe://a/ns/web/sa/shop"}, "/", -1},
		"not certainly critical":   {Caller{}, "/pay/../slow", 1},
		"not written as it is low": {Caller{}, "/%75pdates", 1},
		"a name that begins alike": {Caller{}, "/payments", -1},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.class, of.ClassOf(test.from, Asked{Port: 80, Method: "GET", Path: test.path}))
		})
	}
	require.True(t, of.Means(80))
	require.False(t, of.Means(81))
	require.True(t, of.IsProbe(Asked{80, "GET", "/healthz"}))
	require.False(t, of.IsProbe(Asked{80, "POST", "/healthz"}))
	require.False(t, of.IsProbe(Asked{Port: 80}))
}

// TestPace: so much at once, the rest evenly, and what was not used is not kept.
func TestPace(t *testing.T) {
	class := &TrafficClass{BytesPerSecond: 1000}
	var kept Paced
	for _, step := range []struct {
		at    time.Duration
		bytes int
		wait  time.Duration
	}{
		{0, 100, 0},
		{0, 100, 100 * time.Millisecond},
		{0, 1000, 1100 * time.Millisecond},
		{time.Second, 0, 100 * time.Millisecond},
		{time.Hour, 100, 0},
		{time.Hour, 1000, time.Second},
		{2 * time.Hour, 1 << 30, (1<<30)*time.Millisecond - paceBurst},
	} {
		var wait time.Duration
		kept, wait = class.Pace(kept, step.at, step.bytes)
		require.Equal(t, step.wait, wait, "%v", step)
	}
	kept, wait := (&TrafficClass{}).Pace(0, time.Second, 1<<30)
	require.Zero(t, kept)
	require.Zero(t, wait)
}

func TestOverloadsAreCompared(t *testing.T) {
	overloadWith := func(change func(*Overload)) *Overload {
		made := &Overload{
			Service: "a", Ports: []uint16{80}, MaxParallelRequests: 1, Probes: []Probe{{Port: 80}},
			Classes: []TrafficClass{{Priority: PriorityLow, Callers: &AccessRule{Identities: []string{"x"}}, Routes: []AccessRoute{{Methods: []string{"GET"}}}}},
		}
		change(made)
		return made
	}
	same := overloadWith(func(*Overload) {})
	require.True(t, same.Equal(overloadWith(func(*Overload) {})))
	for name, change := range map[string]func(*Overload){
		"service":  func(o *Overload) { o.Service = "b" },
		"ports":    func(o *Overload) { o.Ports[0] = 81 },
		"most":     func(o *Overload) { o.MaxParallelRequests = 2 },
		"probes":   func(o *Overload) { o.Probes = nil },
		"priority": func(o *Overload) { o.Classes[0].Priority = PriorityDefault },
		"rate":     func(o *Overload) { o.Classes[0].BytesPerSecond = 1 },
		"callers":  func(o *Overload) { o.Classes[0].Callers.Identities[0] = "y" },
		"everyone": func(o *Overload) { o.Classes[0].Callers = nil },
		"routes":   func(o *Overload) { o.Classes[0].Routes[0].Methods[0] = "PUT" },
	} {
		require.False(t, same.Equal(overloadWith(change)), name)
	}
}
