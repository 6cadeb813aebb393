// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

func TestRefusingEndpointsAreLeft(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "k1"}, named)
	destination.Splits = []mesh.Split{split(50, 50)}
	p.Discovery.SetDestination(destination)
	client := p.caller.Client()
	proxytest.Get(t, client, shop+"/")
	p.pods[1].Stop() // The canary's pod is gone and nobody has said so.
	for range 50 {
		status, body := proxytest.Get(t, client, shop+"/")
		require.Equal(t, 200, status)
		require.Equal(t, "s1", body)
	}
	left := p.caller.Metric("response_total", `classification="failure"`, `error="connect"`, `dst_pod_template_hash="k1"`)
	require.InDelta(t, 25, left, 20, "each counts for the revision that was drawn")
	require.InDelta(t, left, p.caller.Metric("sluice_connect_failures_total", `dst_pod_template_hash="k1"`), 0)
	require.Zero(t, p.caller.Metric("response_total", `classification="failure"`, `dst_pod_template_hash="s1"`))
}

func TestEmptyCanaryIsServedByStableAndCounts(t *testing.T) {
	p, destination := newPair(t, []string{"s1"}, named)
	destination.Splits = []mesh.Split{split(0, 100)}
	p.Discovery.SetDestination(destination)
	status, body := proxytest.Get(t, p.caller.Client(), shop+"/")
	require.Equal(t, 200, status)
	require.Equal(t, "s1", body)
	require.InDelta(t, 1, p.caller.Metric("response_total", `error="no_endpoint"`, `dst_pod_template_hash="k1"`), 0)
}

// A drain that takes all pods of a canary at once is not its failure: stable serves until they are back.
func TestCanaryThatIsDrainedIsServedByStable(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "k1"}, named)
	destination.Splits = []mesh.Split{split(0, 100)}
	destination.Endpoints[1].Ready = false
	p.Discovery.SetDestination(destination)
	status, body := proxytest.Get(t, p.caller.Client(), shop+"/")
	require.Equal(t, 200, status)
	require.Equal(t, "s1", body)
	require.Zero(t, p.caller.Metric("response_total", `classification="failure"`))
	require.InDelta(t, 1, p.caller.Metric("response_total", `classification="success"`, `dst_pod_template_hash="s1"`), 0)
}

func TestNoEndpointAnswers(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, named)
	p.pods[0].Stop()
	response, err := p.caller.Client().Post(shop+"/", "text/plain", strings.NewReader("order"))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.NotEmpty(t, response.Header.Get("Sluice-Error"))
	require.InDelta(t, 1, p.caller.Metric("response_total", `error="connect"`, `dst_pod_template_hash="s1"`), 0)
}

func TestWrongIdentityIsRefused(t *testing.T) {
	p, destination := newPair(t, []string{"s1"}, named)
	destination.Endpoints[0].Identity = "spiffe://cluster.local/ns/shop/sa/somebody-else"
	p.Discovery.SetDestination(destination)
	status, _ := proxytest.Get(t, p.caller.Client(), shop+"/")
	require.Equal(t, http.StatusServiceUnavailable, status)
}

// impatientApp is an HTTP/1.1 application that ends each connection right after its answer without
// having said so, as applications do whose idle time is short.
func impatientApp(t *testing.T, listener net.Listener, served *atomic.Int64) {
	t.Helper()
	serveTCP(t, listener, func(conn net.Conn) {
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return
		}
		served.Add(1)
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
}

func TestEndedIdleConnectionsLoseNothing(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	var served atomic.Int64
	impatientApp(t, p.pods[0].Listen(), &served)
	const clients, requests = 8, 100
	var all sync.WaitGroup
	for range clients {
		client := p.caller.Client()
		all.Go(func() {
			for i := range requests {
				method, body := http.MethodPost, strings.Repeat("x", i*50)
				if i%2 == 0 {
					method, body = http.MethodGet, ""
				}
				request, err := http.NewRequest(method, shop+"/", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				response, err := client.Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if err != nil || response.StatusCode != http.StatusOK || string(got) != body {
					t.Errorf("request %d: status %d, error %v, %d bytes for %d", i, response.StatusCode, err, len(got), len(body))
				}
			}
		})
	}
	all.Wait()
	require.EqualValues(t, clients*requests, served.Load(), "each request is served once")
}

func TestRequestsThatWereSeenAreNotSentAgain(t *testing.T) {
	for name, test := range map[string]struct {
		method string
		seen   int64
		status int
	}{
		"post": {http.MethodPost, 1, http.StatusBadGateway},
		"get":  {http.MethodGet, 2, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
			var seen atomic.Int64
			serveTCP(t, p.pods[0].Listen(), func(conn net.Conn) {
				reader := bufio.NewReader(conn)
				for {
					request, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, request.Body)
					if request.URL.Path == "/die" {
						seen.Add(1)
						return
					}
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			client := p.caller.Client()
			status, _ := proxytest.Get(t, client, shop+"/live")
			require.Equal(t, 200, status)
			request, err := http.NewRequestWithContext(t.Context(), test.method, shop+"/die", strings.NewReader("body"))
			require.NoError(t, err)
			response, err := client.Do(request)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, test.status, response.StatusCode)
			require.LessOrEqual(t, seen.Load(), test.seen+1)
			if test.method == http.MethodPost {
				require.EqualValues(t, 1, seen.Load(), "a POST that was seen must not be sent again")
			}
		})
	}
}

// TestRollingPodsLoseNothing replaces pods under load, as a rolling update does, while weights
// change.
func TestRollingPodsLoseNothing(t *testing.T) {
	for name, test := range map[string]struct {
		methods []string
		replace func(*roll)
	}{
		"the endpoint goes first":    {[]string{http.MethodGet, http.MethodPost, http.MethodPut}, (*roll).replaceInOrder},
		"the application goes first": {[]string{http.MethodGet}, (*roll).replaceAbruptly},
	} {
		t.Run(name, func(t *testing.T) {
			m := proxytest.New(t)
			caller := m.Start(proxytest.PodSpec{Name: "caller", Workload: "shop/caller", Hash: "c1"})
			roll := newRoll(t, m)
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			for worker := range len(roll.done) {
				client := caller.Client()
				all.Go(func() {
					for i := worker; ctx.Err() == nil; i++ {
						if err := roll.request(client, test.methods[i%len(test.methods)], i); err != nil {
							t.Errorf("worker %d, request %d: %v", worker, i, err)
						}
						roll.done[worker].Add(1)
					}
				})
			}
			for range 10 {
				test.replace(roll)
			}
			cancel()
			all.Wait()
		})
	}
}

type roll struct {
	t       *testing.T
	mesh    *proxytest.Mesh
	current []*rolled
	started int
	weight  uint32
	// done counts the requests of each worker.
	done [8]atomic.Int64
}

type rolled struct {
	pod  *proxytest.Pod
	stop func()
}

func newRoll(t *testing.T, m *proxytest.Mesh) *roll {
	r := &roll{t: t, mesh: m}
	for _, hash := range []string{"s1", "s1", "k1"} {
		r.current = append(r.current, r.start(hash))
	}
	r.publish()
	return r
}

func (r *roll) start(hash string) *rolled {
	r.started++
	pod := r.mesh.Start(proxytest.PodSpec{Name: fmt.Sprintf("shop-%s-%d", hash, r.started), Workload: "shop/shop", Hash: hash})
	return &rolled{pod: pod, stop: pod.Serve(echo(hash))}
}

func (r *roll) publish() {
	destination := mesh.Destination{Address: shopVIP, Service: mesh.Service{Namespace: "shop", Name: "shop"}, Splits: []mesh.Split{split(100-r.weight, r.weight)}}
	for _, each := range r.current {
		destination.Endpoints = append(destination.Endpoints, each.pod.Endpoint())
	}
	r.mesh.Discovery.SetDestination(destination)
	for _, each := range r.current {
		inbound := mesh.Inbound{Workload: "shop/shop", PodTemplateHash: each.pod.Spec.Hash, Split: &destination.Splits[0]}
		for _, peer := range r.current {
			if peer != each {
				inbound.Peers = append(inbound.Peers, peer.pod.Peer())
			}
		}
		r.mesh.Discovery.SetInbound(each.pod.Spec.Name, inbound)
	}
}

// add starts a pod and takes the oldest out of the configuration. It returns the oldest.
func (r *roll) add() *rolled {
	old := r.current[0]
	r.weight = (r.weight + 35) % 101
	r.current = append(r.current[1:], r.start(old.pod.Spec.Hash))
	return old
}

// replaceInOrder takes a pod away as a cluster does whose applications wait a moment before they
// stop: nobody sends there any more when it stops.
func (r *roll) replaceInOrder() {
	old := r.add()
	r.publish()
	r.mesh.Discovery.AwaitAcknowledged(r.t, "caller")
	// Whatever was under way then has ended when each worker has ended another request.
	for worker := range len(r.done) {
		before := r.done[worker].Load()
		require.Eventually(r.t, func() bool { return r.done[worker].Load() > before }, time.Minute, time.Millisecond)
	}
	old.stop()
	old.pod.Drain()
	<-old.pod.Ended()
}

// replaceAbruptly stops the application while requests still come.
func (r *roll) replaceAbruptly() {
	old := r.add()
	old.stop()
	r.publish()
	old.pod.Drain()
	<-old.pod.Ended()
}

func (r *roll) request(client *http.Client, method string, n int) error {
	body := strings.Repeat("x", n*37%3000)
	if method == http.MethodGet {
		body = ""
	}
	request, err := http.NewRequest(method, shop+"/", io.MultiReader(strings.NewReader(body)))
	if err != nil {
		return err
	}
	if n%2 == 0 {
		request.Close = true
	}
	began := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: status %d: %s", method, response.StatusCode, got)
	case string(got) != body:
		return fmt.Errorf("%d bytes for %d", len(got), len(body))
	case time.Since(began) > 5*time.Second:
		return fmt.Errorf("took %s", time.Since(began))
	}
	return nil
}
