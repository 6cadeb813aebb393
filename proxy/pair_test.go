// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	shop    = "http://10.99.0.1:80"
	shopVIP = "10.99.0.1:80"
)

// pair is a caller's pod and pods of one workload behind a Service address.
type pair struct {
	*proxytest.Mesh
	caller *proxytest.Pod
	pods   []*proxytest.Pod
}

// newPair starts a caller and one pod per hash, each served by the handler that serve returns.
func newPair(t *testing.T, hashes []string, serve func(hash string) http.Handler) (*pair, mesh.Destination) {
	t.Helper()
	m := proxytest.New(t)
	p := &pair{Mesh: m, caller: m.Start(proxytest.PodSpec{Name: "caller", Workload: "shop/caller", Hash: "c1"})}
	destination := mesh.Destination{Address: shopVIP, Service: mesh.Service{Namespace: "shop", Name: "shop", Port: 80}}
	for i, hash := range hashes {
		pod := m.Start(proxytest.PodSpec{Name: fmt.Sprintf("shop-%s-%d", hash, i), Workload: "shop/shop", Hash: hash})
		if handler := serve(hash); handler != nil {
			pod.Serve(handler)
		}
		destination.Endpoints = append(destination.Endpoints, pod.Endpoint())
		p.pods = append(p.pods, pod)
	}
	m.Discovery.SetDestination(destination)
	return p, destination
}

func split(stable, canary uint32) mesh.Split {
	return mesh.Split{Workload: "shop/shop", Generation: 1, Revisions: []mesh.RevisionWeight{
		{Name: "stable", PodTemplateHash: "s1", Weight: stable},
		{Name: "canary", PodTemplateHash: "k1", Weight: canary},
	}}
}

func named(hash string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, hash) })
}

// echo answers with what it was sent, header and trailer included.
func echo(string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Method", r.Method)
		w.Header().Set("X-Target", r.RequestURI)
		w.Header().Set("X-Host", r.Host)
		w.Header().Set("X-Proto", r.Proto)
		w.Header().Set("X-Trailer", r.Trailer.Get("X-Sum"))
		w.Header().Set("X-Encoding", strings.Join(r.TransferEncoding, ","))
		w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
		for name, values := range r.Header {
			w.Header()["X-Got-"+name] = values
		}
		_, _ = w.Write(body)
	})
}

func TestPairCarriesARequest(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, echo)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop+"/a%2Fb//c?x=1&y", strings.NewReader("hello"))
	require.NoError(t, err)
	request.Host = "shop.example:80"
	request.Header.Set("Sluice-Client-Id", "spiffe://cluster.local/ns/evil/sa/evil")
	request.Header.Set("User-Agent", "")
	response, err := p.caller.Client().Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, "hello", string(body))
	header := response.Header
	require.Equal(t, "POST", header.Get("X-Method"))
	require.Equal(t, "/a%2Fb//c?x=1&y", header.Get("X-Target"))
	require.Equal(t, "shop.example:80", header.Get("X-Host"))
	require.Equal(t, "5", header.Get("X-Length"))
	require.Equal(t, "spiffe://cluster.local/ns/shop/sa/default", header.Get("X-Got-Sluice-Client-Id"))
	for _, invented := range []string{"User-Agent", "X-Forwarded-For", "Accept-Encoding", "Via", "Sluice-Handoff"} {
		require.NotContains(t, header, "X-Got-"+invented)
	}
	require.Equal(t, 1.0, p.caller.Metric("response_total", `direction="outbound"`, `tls="true"`, `dst_deployment="shop"`,
		`dst_pod_template_hash="s1"`, `dst_service="shop"`, `status_code="200"`, `classification="success"`))
	require.Equal(t, 1.0, p.pods[0].Metric("response_total", `direction="inbound"`, `tls="true"`, `classification="success"`))
}

func TestPairPassesMethodsAndBodies(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, echo)
	client := p.caller.Client()
	large := bytes.Repeat([]byte("0123456789abcdef"), 32<<10)
	for name, test := range map[string]struct {
		method string
		body   io.Reader
		want   []byte
		length string
	}{
		"get":            {method: "GET", length: "0"},
		"head":           {method: "HEAD", length: "0"},
		"options":        {method: "OPTIONS", length: "0"},
		"delete":         {method: "DELETE", length: "0"},
		"unknown method": {method: "BREW", length: "0"},
		"post":           {method: "POST", body: strings.NewReader("a"), want: []byte("a"), length: "1"},
		"post nothing":   {method: "POST", body: strings.NewReader(""), want: nil, length: "0"},
		"chunked":        {method: "PUT", body: io.MultiReader(strings.NewReader("abc")), want: []byte("abc"), length: "-1"},
		"large":          {method: "POST", body: bytes.NewReader(large), want: large, length: fmt.Sprint(len(large))},
		"large chunked":  {method: "POST", body: io.MultiReader(bytes.NewReader(large)), want: large, length: "-1"},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), test.method, shop+"/", test.body)
			require.NoError(t, err)
			response, err := client.Do(request)
			require.NoError(t, err)
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, response.StatusCode)
			require.Equal(t, test.method, response.Header.Get("X-Method"))
			require.Equal(t, test.length, response.Header.Get("X-Length"))
			require.True(t, bytes.Equal(test.want, body), "body of %d bytes came back as %d", len(test.want), len(body))
		})
	}
}

func TestSplitFollowsWeights(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "s1", "k1"}, named)
	client := p.caller.Client()
	for _, weight := range []uint32{0, 25, 100, 0} {
		destination.Splits = []mesh.Split{split(100-weight, weight)}
		p.Discovery.SetDestination(destination)
		if weight == 0 {
			proxytest.Get(t, client, shop+"/") // Subscribes, the first time.
		}
		p.Discovery.AwaitAcknowledged(t, "caller")
		const requests = 1000
		canary := 0
		for range requests {
			if _, body := proxytest.Get(t, client, shop+"/"); body == "k1" {
				canary++
			}
		}
		require.InDelta(t, requests*int(weight)/100, canary, requests*0.05, "weight %d", weight)
		if weight == 0 {
			require.Zero(t, canary)
		}
	}
}

func TestControlPlaneAway(t *testing.T) {
	p, destination := newPair(t, []string{"s1"}, named)
	client := p.caller.Client()
	status, body := proxytest.Get(t, client, shop+"/")
	require.Equal(t, 200, status)
	require.Equal(t, "s1", body)
	p.StopControlPlane()
	for range 10 {
		_, body = proxytest.Get(t, client, shop+"/")
		require.Equal(t, "s1", body)
	}
	// An address that was never asked for is forwarded to as it is, and without waiting as soon as the
	// proxy has seen that there is nobody to ask.
	next := 1
	require.Eventually(t, func() bool {
		next++
		unknown := fmt.Sprintf("10.99.0.%d:80", next)
		p.Forward(unknown, destination.Endpoints[0].Address)
		began := time.Now()
		_, body = proxytest.Get(t, client, "http://"+unknown+"/")
		require.Equal(t, "s1", body)
		return time.Since(began) < 900*time.Millisecond
	}, 30*time.Second, time.Millisecond)
	status, _ = p.caller.AdminGet("/ready")
	require.Equal(t, 200, status)
}

// TestLaterConnectionsResume: the second connection to a pod costs no signatures, and the pod knows who
// it is from all the same.
func TestLaterConnectionsResume(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2)
	p, _ := newPair(t, []string{"s1"}, only(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/both" {
			both.Done()
			both.Wait()
		}
		_, _ = io.WriteString(w, r.Header.Get("Sluice-Client-Id"))
	}))
	ask := func(path string) {
		status, body := proxytest.Get(t, p.caller.Client(), shop+path)
		require.Equal(t, 200, status)
		require.Equal(t, "spiffe://cluster.local/ns/shop/sa/default", body)
	}
	ask("/")
	var asking sync.WaitGroup
	asking.Go(func() {
		response, err := p.caller.Client().Get(shop + "/both")
		if err != nil {
			both.Done()
			t.Error(err)
			return
		}
		_ = response.Body.Close()
	})
	ask("/both")
	asking.Wait()
	for pod, direction := range map[*proxytest.Pod]string{p.caller: "outbound", p.pods[0]: "inbound"} {
		handshakes := func(outcome string) float64 {
			return pod.Metric("sluice_tls_handshakes_total", `direction="`+direction+`"`, `outcome="`+outcome+`"`)
		}
		require.InDelta(t, 1, handshakes("whole"), 0)
		require.GreaterOrEqual(t, handshakes("resumed"), 1.0, "two when the first connection was put back late")
		require.InDelta(t, 0, handshakes("failed"), 0)
	}
}

// pairThatFails calls three pods of one revision, of which the first fails all requests.
func pairThatFails(t *testing.T) (*pair, mesh.Destination) {
	t.Helper()
	p, destination := newPair(t, []string{"s1", "s1", "s1"}, func(string) http.Handler { return nil })
	p.pods[0].Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	p.pods[1].Serve(named("good"))
	p.pods[2].Serve(named("good"))
	return p, destination
}

// TestFailingPodsAttractNothing: both protocols tell the balancer what became of requests.
func TestFailingPodsAttractNothing(t *testing.T) {
	for name, clientOf := range map[string]func(*proxytest.Pod) *http.Client{
		"HTTP/1.1": (*proxytest.Pod).Client, "HTTP/2": (*proxytest.Pod).HTTP2Client,
	} {
		t.Run(name, func(t *testing.T) {
			p, destination := pairThatFails(t)
			failed := func(requests int) (failed int) {
				for range requests {
					if status, _ := proxytest.Get(t, clientOf(p.caller), shop+"/"); status != http.StatusOK {
						failed++
					}
				}
				return failed
			}
			require.Eventually(t, func() bool { return failed(50) == 0 }, time.Minute, time.Nanosecond)
			destination.Splits = []mesh.Split{split(100, 0)}
			p.Discovery.SetDestination(destination)
			p.Discovery.AwaitAcknowledged(t, "caller")
			require.InDelta(t, 100, failed(300), 40, "while revisions are compared it gets its even share")
		})
	}
}
