// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// TestCircuitOpens: what is more than may be open is refused and counts for the revision that was drawn,
// which no other stands in for.
func TestCircuitOpens(t *testing.T) {
	for name, clientOf := range map[string]func(*proxytest.Pod) *http.Client{
		"HTTP/1.1": (*proxytest.Pod).Client, "HTTP/2": (*proxytest.Pod).HTTP2Client,
	} {
		t.Run(name, func(t *testing.T) {
			p, destination := newPair(t, []string{"s1", "k1"}, func(string) http.Handler { return nil })
			come, leave := make(chan struct{}), make(chan struct{})
			p.pods[0].Serve(named("stable"))
			p.pods[1].Serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				come <- struct{}{}
				<-leave
			}))
			destination.Splits, destination.MaxParallelRequests = []mesh.Split{split(0, 100)}, 2
			p.Discovery.SetDestination(destination)
			client := clientOf(p.caller)
			var open sync.WaitGroup
			for range 2 {
				open.Go(func() {
					response, err := client.Get(shop + "/")
					if err != nil || response.StatusCode != http.StatusOK {
						t.Errorf("what was in time is answered: %v", err)
						return
					}
					_ = response.Body.Close()
				})
				<-come
			}
			response, err := client.Get(shop + "/")
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
			require.Equal(t, "circuit_open", response.Header.Get("Sluice-Error"))
			require.InDelta(t, 1, p.caller.Metric("response_total", `error="circuit_open"`, `dst_pod_template_hash="k1"`, `dst_service="shop"`), 0)
			close(leave)
			open.Wait()
			go func() { <-come }()
			status, _ := proxytest.Get(t, client, shop+"/")
			require.Equal(t, http.StatusOK, status, "there is room again")
		})
	}
}

// TestCircuitNeverLeaks: under load no more than may be is ever open, what is refused is told so, and
// nothing stays claimed.
func TestCircuitNeverLeaks(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "s1"}, func(string) http.Handler { return nil })
	const most = 3
	var overrun atomic.Int64
	for _, pod := range p.pods {
		var open atomic.Int64
		pod.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if open.Add(1) > most {
				overrun.Add(1)
			}
			_, _ = io.WriteString(w, "done")
			open.Add(-1) // Before the answer has left.
		}))
	}
	destination.MaxParallelRequests = most
	p.Discovery.SetDestination(destination)
	awaitKnown(t, p)
	var all sync.WaitGroup
	for range 16 {
		client := p.caller.Client()
		all.Go(func() {
			for range 50 {
				response, err := client.Get(shop + "/")
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if response.StatusCode != http.StatusOK && response.Header.Get("Sluice-Error") != "circuit_open" {
					t.Errorf("%d %q", response.StatusCode, response.Header.Get("Sluice-Error"))
				}
			}
		})
	}
	all.Wait()
	require.Zero(t, overrun.Load())
	for range 50 {
		status, _ := proxytest.Get(t, p.caller.Client(), shop+"/")
		require.Equal(t, http.StatusOK, status)
	}
	require.Eventually(t, func() bool { return len(p.Discovery.Report("caller").GetOpen()) == 0 }, time.Minute, time.Millisecond)
}
