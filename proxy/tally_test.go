// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

func splitSnapshot() *mesh.Snapshot {
	return &mesh.Snapshot{Destinations: map[string]*mesh.Destination{
		"10.99.0.1:80": {Splits: []mesh.Split{{Workload: "shop/web"}}},
	}}
}

// A session has what was counted in it, each request once, and of nobody but those who are asked about.
func TestTally(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m := newMetrics(Options{Now: func() time.Time { return began }})
	inbound := trafficLabels{direction: directionInbound, targetPort: "8080"}
	probe, copied := inbound, inbound
	probe.routeName, copied.routeName = routeProbe, routeMirror
	called := trafficLabels{direction: directionOutbound, dstNamespace: "shop", dstDeployment: "web", dstHash: "k1"}
	mirrored, other, nobody := called, called, called
	mirrored.routeName, other.dstDeployment, nobody.dstHash = routeMirror, "other", ""
	count := func() {
		m.response(inbound, 200, 7*time.Millisecond, "")
		m.response(inbound, 404, 7*time.Millisecond, "")
		m.response(inbound, 503, time.Hour, "")
		m.failure(inbound, errorCanceled)
		m.response(called, 200, time.Millisecond, "")
		m.response(called, 500, time.Millisecond, "")
		m.response(called, 200, time.Millisecond, errorTruncated)
		m.response(called, 429, time.Millisecond, errorRateLimited) // by the pod's proxy, which does not count it as served
		m.response(called, 403, time.Millisecond, errorDenied)
		m.failure(called, errorConnect)
		m.failure(called, errorReset)
		m.failure(called, errorCanceled)
		m.connectFailure(called) // an attempt, of a request that is counted by itself
		for _, labels := range []trafficLabels{probe, copied, mirrored, other, nobody} {
			m.response(labels, 500, time.Millisecond, "")
		}
	}
	count()
	tallier := &tallier{metrics: m}
	require.False(t, tallier.wanted(true, &mesh.Snapshot{}, began))
	require.False(t, tallier.wanted(false, splitSnapshot(), began), "nobody asks")
	require.True(t, tallier.wanted(true, splitSnapshot(), began))
	for i := range uint64(3) {
		now := began.Add(time.Duration(i) * time.Second)
		require.True(t, tallier.wanted(true, splitSnapshot(), now))
		tally := tallier.tally(splitSnapshot(), now)
		require.NotZero(t, tally.GetSession())
		require.Equal(t, tallier.session, tally.GetSession())
		require.Equal(t, i+1, tally.GetSequence())
		require.Equal(t, 1000*i, tally.GetAgeMilliseconds())
		require.Equal(t, 2*i, tally.GetServed().GetSucceeded())
		require.Equal(t, 2*i, tally.GetServed().GetFailed())
		require.Len(t, tally.GetServed().GetLatencies(), bucketCount+1)
		require.Equal(t, 2*i, tally.GetServed().GetLatencies()[5])
		require.Equal(t, i, tally.GetServed().GetLatencies()[bucketCount])
		require.Len(t, tally.GetCalled(), 1)
		of := tally.GetCalled()[0]
		require.Equal(t, []any{"shop/web", "k1", 3 * i, 2 * i}, []any{of.GetWorkload(), of.GetPodTemplateHash(), of.GetAnswered(), of.GetLost()})
		count()
	}
	first := tallier.session
	require.False(t, tallier.wanted(false, splitSnapshot(), began))
	require.True(t, tallier.wanted(true, splitSnapshot(), began))
	require.NotEqual(t, first, tallier.session)
	tally := tallier.tally(splitSnapshot(), began)
	require.EqualValues(t, 1, tally.GetSequence())
	require.Zero(t, tally.GetServed().GetSucceeded())
	require.Equal(t, []*meshpb.Called{{Workload: "shop/web", PodTemplateHash: "k1"}}, tally.GetCalled())
}

// BenchmarkTally is what a tally costs a proxy that calls fifty revisions, once a second while there is a run.
func BenchmarkTally(b *testing.B) {
	m := newMetrics(Options{Now: time.Now})
	for i := range 50 {
		called := trafficLabels{direction: directionOutbound, dstNamespace: "shop", dstDeployment: "web", dstHash: strconv.Itoa(i)}
		m.response(called, 200, 7*time.Millisecond, "")
	}
	tallier := &tallier{metrics: m}
	now := time.Now()
	if !tallier.wanted(true, splitSnapshot(), now) {
		b.Fatal("no session")
	}
	b.ReportAllocs()
	for b.Loop() {
		tallier.tally(splitSnapshot(), now)
	}
}
