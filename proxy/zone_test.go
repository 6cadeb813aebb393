// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// TestRequestsStayInTheZone: endpoints of the caller's zone serve its requests, within the revision that is
// drawn, and others do when those have as much open as they may, or are gone.
func TestRequestsStayInTheZone(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "s1", "k1"}, func(string) http.Handler { return nil })
	come, leave := make(chan string), make(chan struct{})
	serve := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/stay" {
				come <- name
				<-leave
			}
			_, _ = io.WriteString(w, name)
		})
	}
	stopNear := p.pods[0].Serve(serve("near"))
	p.pods[1].Serve(serve("far"))
	p.pods[2].Serve(serve("canary"))
	destination.Endpoints[0].Hints.Zones, destination.Endpoints[1].Hints.Zones, destination.Endpoints[2].Hints.Zones = "a", "b", "b"
	caller := mesh.Inbound{Workload: "shop/caller", PodTemplateHash: "c1", Location: mesh.Location{Zone: "a"}}
	p.Discovery.SetInbound("caller", caller)
	tell := func(split mesh.Split, most uint32) {
		destination.Splits, destination.MaxParallelRequests = []mesh.Split{split}, most
		p.Discovery.SetDestination(destination)
		awaitKnown(t, p)
	}
	client := p.caller.Client()
	ask := func(requests int) map[string]int {
		answers := map[string]int{}
		for range requests {
			status, body := proxytest.Get(t, client, shop+"/")
			require.Equal(t, http.StatusOK, status)
			answers[body]++
		}
		return answers
	}
	tell(split(100, 0), 0)
	require.Equal(t, map[string]int{"near": 50}, ask(50))
	tell(split(50, 50), 0)
	shared := ask(400)
	require.InDelta(t, 200, shared["canary"], 60, "the canary has its share though it is in another zone")
	require.Zero(t, shared["far"])

	const most = 8
	tell(split(100, 0), most)
	answered := make(chan string)
	staying := map[string]int{}
	for staying["near"] < most { // What was asked before may still be open there for a moment.
		go func() {
			_, body := proxytest.Get(t, p.caller.Client(), shop+"/stay")
			answered <- body
		}()
		staying[<-come]++
	}
	require.Equal(t, map[string]int{"far": 10}, ask(10), "the one nearby has as much open as it may")
	close(leave)
	for range staying["near"] + staying["far"] {
		<-answered
	}

	tell(split(100, 0), 0)
	stopNear()
	p.pods[0].Stop()
	require.Equal(t, map[string]int{"far": 10}, ask(10), "nobody answers nearby")
	caller.Location.Zone = "b"
	p.Discovery.SetInbound("caller", caller)
	p.Discovery.AwaitAcknowledged(t, "caller")
	require.Equal(t, map[string]int{"far": 10}, ask(10))
}
