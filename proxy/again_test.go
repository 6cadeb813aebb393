// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

func generous() *mesh.Retries {
	return &mesh.Retries{
		Attempts: 2, Codes: []uint32{503}, Methods: []string{http.MethodGet, http.MethodPut}, GRPCCodes: []uint32{14},
		Percent: 100, Interval: 10_000, MinCount: 1_000_000, MinInterval: 1000,
	}
}

// flaky refuses as often as it is told, after having read what it was sent, and then answers with that.
type flaky struct {
	refuse atomic.Int64
	seen   atomic.Int64
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == "PRI" {
		return // The question whether it speaks HTTP/2.
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	f.seen.Add(1)
	refused := f.refuse.Add(-1) >= 0
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", map[bool]string{true: "14", false: "0"}[refused])
		return
	}
	if refused {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "refused")
		return
	}
	_, _ = w.Write(body)
}

// retried are ways to pods of a revision that is retried.
type retried struct {
	*pair
	destination mesh.Destination
	client      *http.Client
	app         *flaky
}

func (r retried) set(t *testing.T, policy *mesh.Retries) {
	t.Helper()
	r.destination.Retries = policy
	r.Discovery.SetDestination(r.destination)
	awaitKnown(t, r.pair)
	r.client.CloseIdleConnections() // One may be from before the address was known.
}

func (r retried) do(t *testing.T, method, kind, body string) (int, string, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, shop+"/", strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", kind)
	response, err := r.client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(got), response.Header
}

func eachRetried(t *testing.T, try func(t *testing.T, r retried)) {
	t.Helper()
	for name, clientOf := range map[string]func(*proxytest.Pod) *http.Client{
		"HTTP/1.1": (*proxytest.Pod).Client, "HTTP/2": (*proxytest.Pod).HTTP2Client,
	} {
		t.Run(name, func(t *testing.T) {
			app := &flaky{}
			p, destination := newPair(t, []string{"s1"}, only(app.ServeHTTP))
			try(t, retried{p, destination, clientOf(p.caller), app})
		})
	}
	t.Run("HTTP/2 to HTTP/1.1", func(t *testing.T) {
		app := &flaky{}
		p, destination := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		p.ServeHTTP1On(listener, app)
		destination.Endpoints[0].Identity = "" // The outbound proxy itself speaks HTTP/1.1.
		destination.Endpoints[0].Address = listener.Addr().String()
		try(t, retried{p, destination, p.caller.HTTP2Client(), app})
	})
}

func TestRetries(t *testing.T) {
	eachRetried(t, func(t *testing.T, r retried) {
		for name, test := range map[string]struct {
			method, body string
			refused      int64
			// seen is how often the application is asked.
			seen   int64
			status int
		}{
			"one answer":           {http.MethodGet, "", 1, 2, http.StatusOK},
			"as often as allowed":  {http.MethodGet, "", 2, 3, http.StatusOK},
			"and not once more":    {http.MethodGet, "", 3, 3, http.StatusServiceUnavailable},
			"with its content":     {http.MethodPut, strings.Repeat("content", 1000), 1, 2, http.StatusOK},
			"not with too much":    {http.MethodPut, strings.Repeat("content", 100_000), 1, 1, http.StatusServiceUnavailable},
			"not what may change":  {http.MethodPost, "content", 1, 1, http.StatusServiceUnavailable},
			"not what is answered": {http.MethodGet, "", 0, 1, http.StatusOK},
		} {
			t.Run(name, func(t *testing.T) {
				r.set(t, generous())
				r.app.refuse.Store(test.refused)
				r.app.seen.Store(0)
				failed := r.caller.Metric("response_total", `classification="failure"`, `direction="outbound"`)
				succeeded := r.caller.Metric("response_total", `classification="success"`, `direction="outbound"`)
				retries := r.caller.Metric("sluice_retries_total", `outcome="sent"`)
				status, body, _ := r.do(t, test.method, "text/plain", test.body)
				require.Equal(t, test.status, status)
				require.Equal(t, test.seen, r.app.seen.Load())
				if status == http.StatusOK {
					require.Equal(t, test.body, body)
					succeeded++
				} else {
					require.Equal(t, "refused", body)
					failed++
				}
				require.InDelta(t, failed, r.caller.Metric("response_total", `classification="failure"`, `direction="outbound"`), 0, "each request counts once")
				require.InDelta(t, succeeded, r.caller.Metric("response_total", `classification="success"`, `direction="outbound"`), 0)
				require.InDelta(t, retries+float64(test.seen-1), r.caller.Metric("sluice_retries_total", `outcome="sent"`), 0, "and its retries apart")
			})
		}
	})
}

func TestRetriesOfGRPC(t *testing.T) {
	app := &flaky{}
	p, destination := newPair(t, []string{"s1"}, only(app.ServeHTTP))
	r := retried{p, destination, p.caller.HTTP2Client(), app}
	r.set(t, generous())
	app.refuse.Store(1)
	_, _, header := r.do(t, http.MethodPost, "application/grpc", "call")
	require.Equal(t, "0", header.Get("Grpc-Status"))
	require.EqualValues(t, 2, app.seen.Load())
	policy := generous()
	policy.GRPCCodes = []uint32{8}
	r.set(t, policy)
	app.refuse.Store(1)
	_, _, header = r.do(t, http.MethodPost, "application/grpc", "call")
	require.Equal(t, "14", header.Get("Grpc-Status"))
	require.EqualValues(t, 3, app.seen.Load())
}

func TestRetriesKeepToTheirBudget(t *testing.T) {
	eachRetried(t, func(t *testing.T, r retried) {
		policy := generous()
		policy.Percent, policy.Interval, policy.MinCount, policy.MinInterval = 0, 3_600_000, 3, 3_600_000
		r.set(t, policy)
		r.app.refuse.Store(1_000_000)
		for range 10 {
			status, _, _ := r.do(t, http.MethodGet, "text/plain", "")
			require.Equal(t, http.StatusServiceUnavailable, status)
		}
		require.EqualValues(t, 13, r.app.seen.Load())
		require.InDelta(t, 3, r.caller.Metric("sluice_retries_total", `outcome="sent"`), 0)
		require.InDelta(t, 9, r.caller.Metric("sluice_retries_total", `outcome="no_budget"`), 0)
	})
}

// TestRetriesStayInTheirRevision: no other revision stands in for one that fails, and another pod of it is
// asked before the same again.
func TestRetriesStayInTheirRevision(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "k1", "k1"}, func(string) http.Handler { return nil })
	var apps [3]flaky
	for i, pod := range p.pods {
		apps[i].refuse.Store(1_000_000)
		pod.Serve(&apps[i])
	}
	apps[0].refuse.Store(0)
	destination.Splits = []mesh.Split{split(0, 100)}
	r := retried{p, destination, p.caller.Client(), nil}
	policy := generous()
	policy.Attempts = 1
	r.set(t, policy)
	for range 20 {
		status, _, _ := r.do(t, http.MethodGet, "text/plain", "")
		require.Equal(t, http.StatusServiceUnavailable, status)
	}
	require.Zero(t, apps[0].seen.Load())
	require.EqualValues(t, 20, apps[1].seen.Load())
	require.EqualValues(t, 20, apps[2].seen.Load())
	require.InDelta(t, 20, p.caller.Metric("sluice_retries_total", `outcome="sent"`, `dst_pod_template_hash="k1"`), 0)
}

// TestRetriesNeverLoseARequest: whoever refuses, and whenever the time is up, each request is answered.
func TestRetriesNeverLoseARequest(t *testing.T) {
	eachRetried(t, func(t *testing.T, r retried) {
		r.destination.Timeouts = mesh.Timeouts{Request: 5}
		r.set(t, generous())
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				for i := range 100 {
					if i%3 == 0 {
						r.app.refuse.Add(2)
					}
					response, err := r.client.Get(shop + "/")
					if err != nil {
						t.Errorf("request %d was not answered: %v", i, err)
						return
					}
					_, _ = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
				}
			})
		}
		clients.Wait()
		r.app.refuse.Store(0)
		r.destination.Timeouts = mesh.Timeouts{}
		r.set(t, generous())
		status, _, _ := r.do(t, http.MethodGet, "text/plain", "")
		require.Equal(t, http.StatusOK, status)
	})
}
