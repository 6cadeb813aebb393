// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

func answer(version uint64, addresses ...string) *meshpb.WatchResponse {
	response := &meshpb.WatchResponse{Version: version}
	for _, address := range addresses {
		response.Destinations = append(response.Destinations, &meshpb.Destination{Address: address})
	}
	return response
}

// Until the proxy has been told who may call its pod, nobody may; what it was told of other things changes
// nothing in that.
func TestNobodyMayCallBeforeItIsKnownWho(t *testing.T) {
	config := newConfig(time.Now, nil)
	asked := mesh.Asked{Port: 80, Method: "GET", Path: "/"}
	require.False(t, config.Snapshot().Inbound.Access.Judge(mesh.Caller{Identity: "spiffe://a/b"}, asked).Allowed)
	config.apply(&meshpb.WatchResponse{Version: 1, Destinations: []*meshpb.Destination{{Address: "10.0.0.1:80"}}})
	require.False(t, config.Snapshot().Inbound.Access.Judge(mesh.Caller{Identity: "spiffe://a/b"}, asked).Allowed)
	config.apply(&meshpb.WatchResponse{Version: 2, Inbound: &meshpb.Inbound{}})
	require.True(t, config.Snapshot().Inbound.Access.Judge(mesh.Caller{}, asked).Allowed)
}

func TestUnusedDestinationsAreDropped(t *testing.T) {
	now := time.Unix(1000, 0)
	config := newConfig(func() time.Time { return now }, nil)
	config.want("a:1")
	config.want("b:1")
	config.setConnected(true)
	config.apply(answer(1, "a:1", "b:1", "never-asked:1"))
	require.Len(t, config.Snapshot().Destinations, 2)
	now = now.Add(unusedTime / 2)
	require.NotNil(t, config.Destination(t.Context(), "a:1"))
	now = now.Add(unusedTime/2 + time.Second)
	config.setConnected(false)
	config.dropUnused()
	require.Len(t, config.Snapshot().Destinations, 2, "nothing is forgotten while nobody can be asked")
	config.setConnected(true)
	before := config.Snapshot()
	config.dropUnused()
	require.Len(t, config.Snapshot().Destinations, 1)
	require.Len(t, before.Destinations, 2, "a snapshot is never changed")
	require.Equal(t, map[string]bool{"a:1": true}, config.wantedAddresses())
}

func TestFirstAnswerIsWaitedFor(t *testing.T) {
	config := newConfig(time.Now, nil)
	began := time.Now()
	require.Nil(t, config.Destination(t.Context(), "a:1"), "nobody to ask: no waiting")
	require.Less(t, time.Since(began), firstAnswerTime/2)
	config.setConnected(true)
	go func() {
		for range config.wantsChanged {
			if config.wantedAddresses()["b:1"] {
				config.apply(answer(1, "b:1"))
				return
			}
		}
	}()
	require.NotNil(t, config.Destination(t.Context(), "b:1"))
}

func TestWhatAResponseDoesNotMentionStays(t *testing.T) {
	config := newConfig(time.Now, nil)
	config.want("a:1")
	config.apply(&meshpb.WatchResponse{Version: 7, Inbound: &meshpb.Inbound{Workload: "n/w"}, Destinations: answer(7, "a:1").GetDestinations()})
	config.apply(&meshpb.WatchResponse{Version: 1}) // The first of a new stream.
	require.EqualValues(t, 1, config.Snapshot().Version)
	require.Equal(t, "n/w", config.Snapshot().Inbound.Workload)
	require.Contains(t, config.Snapshot().Destinations, "a:1")
	select {
	case <-config.inboundKnown:
	default:
		t.Fatal("the inbound side is known")
	}
}
