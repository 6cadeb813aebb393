// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bytes"
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

// overloadOf bounds what is open: 20 requests, of which low ones leave 5 to others.
func overloadOf(most uint32) mesh.Overload {
	route := func(path string) []mesh.AccessRoute {
		return []mesh.AccessRoute{{Path: mesh.NewValueMatch("", mesh.MatchPrefix, path)}}
	}
	return mesh.Overload{
		Service: "shop", Ports: []uint16{proxytest.AppPort}, MaxParallelRequests: most,
		Classes: []mesh.TrafficClass{
			{Priority: mesh.PriorityCritical, Routes: route("/critical")},
			{Priority: mesh.PriorityLow, Routes: route("/low")},
			{Priority: mesh.PriorityDefault, Routes: route("/paced"), BytesPerSecond: 1_000_000},
		},
		Probes: []mesh.Probe{{Port: proxytest.AppPort, Method: "GET", Path: "/healthz"}},
	}
}

// ways to a pod's application.
func clientsOf(g *guarded) map[string]*http.Client {
	return map[string]*http.Client{
		"HTTP/1.1": g.friend.Client(), "HTTP/2": g.friend.HTTP2Client(),
		"HTTP/1.1 outside": g.pods[0].OutsideClient(), "HTTP/2 outside": g.pods[0].OutsideHTTP2Client(),
	}
}

// TestOverloadShedsTheLowFirst: each priority is refused when it would take the room of those above it, and let
// in again when there is room. Probes always are let in.
func TestOverloadShedsTheLowFirst(t *testing.T) {
	g := newGuarded(t, "s1")
	pod := g.pods[0]
	come, leave := make(chan struct{}), make(chan struct{})
	pod.Serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" || r.Method == http.MethodDelete {
			return
		}
		come <- struct{}{}
		<-leave
	}))
	g.guard(t, pod, mesh.Inbound{Overloads: []mesh.Overload{overloadOf(20)}})
	require.Contains(t, metricLines(pod, "sluice_overload_requests_total"), `service="shop",priority="low",outcome="shed"} 0`, "there from the start")
	shed := func(priority string) float64 {
		return pod.Metric("sluice_overload_requests_total", `priority="`+priority+`"`, `outcome="shed"`)
	}
	for name, client := range clientsOf(g) {
		t.Run(name, func(t *testing.T) {
			before := map[string]float64{"low": shed("low"), "default": shed("default"), "critical": shed("critical")}
			failed := pod.Metric("response_total", `direction="inbound"`, `classification="failure"`, `error="overload_shed"`)
			var open sync.WaitGroup
			fill := func(path string, upTo *int, most int) {
				for ; *upTo < most; *upTo++ {
					open.Go(func() {
						if status, code := askFor(t, client, http.MethodGet, path, ""); status != http.StatusOK {
							t.Errorf("what was let in is answered, not %d %s", status, code)
						}
					})
					<-come
				}
			}
			refused := func(path string) {
				response, err := client.Get(shop + path)
				require.NoError(t, err)
				require.NoError(t, response.Body.Close())
				require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
				require.Equal(t, "overload_shed", response.Header.Get("Sluice-Error"))
				require.Equal(t, "1", response.Header.Get("Retry-After"))
			}
			now := 0
			fill("/low", &now, 15)
			refused("/low/er")
			fill("/", &now, 18)
			refused("/")
			refused("/low")
			fill("/critical", &now, 20)
			refused("/critical")
			status, _ := askFor(t, client, http.MethodGet, "/healthz", "")
			require.Equal(t, http.StatusOK, status, "probes are let in")
			for range 20 {
				leave <- struct{}{}
			}
			open.Wait()
			require.Eventually(t, func() bool {
				status, _ := askFor(t, client, http.MethodDelete, "/low", "")
				return status == http.StatusOK
			}, time.Minute, time.Millisecond, "there is room again")
			require.InDelta(t, 2, shed("low")-before["low"], 0)
			require.InDelta(t, 1, shed("default")-before["default"], 0)
			require.InDelta(t, 1, shed("critical")-before["critical"], 0)
			// Users have seen it fail, so that the gate does.
			later := pod.Metric("response_total", `direction="inbound"`, `classification="failure"`, `error="overload_shed"`)
			require.InDelta(t, 4, later-failed, 0)
		})
	}
	require.InDelta(t, 8, g.friend.Metric("response_total", `status_code="503"`, `classification="failure"`, `dst_pod_template_hash="s1"`), 0)
}

func TestOverloadShedsGRPC(t *testing.T) {
	g := newGuarded(t, "s1")
	come, leave := make(chan struct{}), make(chan struct{})
	g.pods[0].Serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		come <- struct{}{}
		<-leave
	}))
	g.guard(t, g.pods[0], mesh.Inbound{Overloads: []mesh.Overload{overloadOf(1)}})
	var open sync.WaitGroup
	open.Go(func() { askFor(t, g.friend.Client(), http.MethodGet, "/", "") })
	<-come
	response, err := g.friend.HTTP2Client().Post(shop+"/critical.B/C", "application/grpc", bytes.NewReader(make([]byte, 5)))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, "14", response.Header.Get("Grpc-Status"), "UNAVAILABLE")
	require.Equal(t, "1000", response.Header.Get("Grpc-Retry-Pushback-Ms"))
	require.Equal(t, "overload_shed", response.Header.Get("Sluice-Error"))
	close(leave)
	open.Wait()
}

// TestOverloadNeverLeaks: whatever becomes of requests, no more than may be is ever open at the application, and
// no claim is left at the end.
func TestOverloadNeverLeaks(t *testing.T) {
	const most = 3
	g := newGuarded(t, "s1")
	pod := g.pods[0]
	var open, overrun atomic.Int64
	come, leave := make(chan struct{}), make(chan struct{})
	pod.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if open.Add(1) > most {
			overrun.Add(1)
		}
		switch r.URL.Path {
		case "/critical/break":
			open.Add(-1)
			panic(http.ErrAbortHandler)
		case "/critical/wait":
			come <- struct{}{}
			<-leave
		default:
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "done")
		}
		open.Add(-1) // Before the answer has left.
	}))
	g.guard(t, pod, mesh.Inbound{Overloads: []mesh.Overload{overloadOf(most)}})
	var asking sync.WaitGroup
	for _, client := range clientsOf(g) {
		for i := range 8 {
			asking.Go(func() {
				for range 25 {
					path := "/critical"
					if i == 0 {
						path = "/critical/break"
					}
					response, err := client.Post(shop+path, "text/plain", bytes.NewReader([]byte("content")))
					if err != nil {
						continue // It was cut.
					}
					_, _ = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
				}
			})
		}
	}
	asking.Wait()
	require.Zero(t, overrun.Load())
	var waiting sync.WaitGroup
	for range most {
		require.Eventually(t, func() bool {
			let := make(chan bool, 1)
			waiting.Go(func() {
				status, _ := askFor(t, g.friend.Client(), http.MethodGet, "/critical/wait", "")
				let <- status == http.StatusOK
			})
			select {
			case <-come:
				return true
			case <-let:
				return false // The last answers are still being given.
			}
		}, time.Minute, time.Millisecond)
	}
	close(leave)
	waiting.Wait()
}

// TestAnswersArePaced: those of a class share its rate, others go as fast as they can, and a client that leaves
// meanwhile holds nothing.
func TestAnswersArePaced(t *testing.T) {
	const size = 600 << 10
	g := newGuarded(t, "s1")
	pod := g.pods[0]
	pod.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) }))
	g.guard(t, pod, mesh.Inbound{Overloads: []mesh.Overload{overloadOf(0)}})
	for name, client := range clientsOf(g) {
		t.Run(name, func(t *testing.T) {
			var began time.Time
			for _, path := range []string{"/", "/paced"} {
				began = time.Now()
				response, err := client.Get(shop + path)
				require.NoError(t, err)
				n, err := io.Copy(io.Discard, response.Body)
				require.NoError(t, err)
				require.EqualValues(t, size, n)
				require.NoError(t, response.Body.Close())
			}
			// 100 ms may go at once and, over HTTP/2, the window of a stream more.
			require.Greater(t, time.Since(began), 200*time.Millisecond)
		})
	}
	response, err := g.friend.Client().Get(shop + "/paced")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close()) // With most of it unread.
	require.Eventually(t, func() bool {
		return pod.Metric("tcp_open_connections", `peer="dst"`) == 0
	}, time.Minute, 10*time.Millisecond)
}
