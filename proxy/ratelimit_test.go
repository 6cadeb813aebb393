// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// asRarely lets each client ask so often at once and, as far as a test lasts, never again.
func asRarely(burst uint32) *mesh.Access {
	return &mesh.Access{Default: mesh.AccessAllow, Limits: []mesh.RateLimit{{Name: "rarely", Interval: time.Hour, Burst: burst}}}
}

func TestRateLimitsOfRequests(t *testing.T) {
	g := newGuarded(t, "s1")
	pod := g.pods[0]
	pod.Serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	access := asRarely(3)
	access.Probes = []mesh.Probe{{Port: 27080, Method: "GET", Path: "/healthz"}}
	g.guard(t, pod, mesh.Inbound{Access: access})
	for name, client := range map[string]*http.Client{"friend": g.friend.Client(), "stranger": g.stranger.HTTP2Client(), "outside": pod.OutsideClient()} {
		t.Run(name, func(t *testing.T) {
			for i := range 6 {
				response, err := client.Post(shop+"/", "text/plain", strings.NewReader("hello"))
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, response.Body)
				require.NoError(t, err)
				require.NoError(t, response.Body.Close())
				if i < 3 {
					require.Equal(t, http.StatusOK, response.StatusCode)
					continue
				}
				require.Equal(t, http.StatusTooManyRequests, response.StatusCode)
				require.Equal(t, "rate_limited", response.Header.Get("Sluice-Error"))
				seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
				require.NoError(t, err)
				require.InDelta(t, 3600, seconds, 60)
			}
		})
	}
	for range 5 {
		status, _ := askFor(t, pod.OutsideClient(), http.MethodGet, "/healthz", "")
		require.Equal(t, http.StatusOK, status, "probes do not count")
	}
	require.InDelta(t, 9, pod.Metric("inbound_http_local_ratelimit_total", `authz_name="rarely"`), 0)
	require.InDelta(t, 3, pod.Metric("inbound_http_local_ratelimit_total", `client_id="`+g.identity("friend")+`"`), 0)
	// No gate holds it against a revision, nor in its favour: where it was refused, nobody has answered.
	for _, caller := range []*proxytest.Pod{g.friend, g.stranger} {
		require.Empty(t, refusedOf(caller))
		require.InDelta(t, 3, caller.Metric("response_total", `status_code="429"`, `classification="success"`, `error="rate_limited"`), 0)
	}
	require.Empty(t, refusedOf(pod))
	require.Zero(t, pod.Metric("response_total", `status_code="429"`))
}

// Only proxies say that they have refused a request: an application that says so has answered it.
func TestApplicationsOwnRefusals(t *testing.T) {
	g := newGuarded(t, "s1")
	g.pods[0].Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Sluice-Error", "rate_limited")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	for _, client := range []*http.Client{g.friend.Client(), g.friend.HTTP2Client()} {
		status, code := askFor(t, client, http.MethodGet, "/", "")
		require.Equal(t, http.StatusTooManyRequests, status)
		require.Empty(t, code)
	}
	require.Zero(t, g.friend.Metric("response_total", `error="rate_limited"`))
	require.InDelta(t, 2, g.friend.Metric("response_total", `status_code="429"`), 0)
	require.InDelta(t, 2, g.pods[0].Metric("response_total", `direction="inbound"`, `status_code="429"`, `classification="success"`), 0)
}

func TestRateLimitsOfConnections(t *testing.T) {
	g := newGuarded(t, "s1", "k1")
	canary, protocols := split(0, 100), map[uint16]mesh.Protocol{proxytest.AppPort: mesh.ProtocolTCP}
	for _, pod := range g.pods {
		sayName(t, pod)
		g.guard(t, pod, mesh.Inbound{Access: asRarely(2), Protocols: protocols})
	}
	pod := g.pods[0]
	g.destination.Endpoints = g.destination.Endpoints[:1]
	g.Discovery.SetDestination(g.destination)
	for _, caller := range []*proxytest.Pod{g.friend, g.stranger} {
		g.Discovery.AwaitAcknowledged(t, caller.Spec.Name)
	}
	for _, dial := range []func() (net.Conn, error){
		func() (net.Conn, error) { return g.friend.DialApp(t.Context(), shopVIP) },
		func() (net.Conn, error) { return g.stranger.DialApp(t.Context(), shopVIP) },
		func() (net.Conn, error) { return pod.DialOutside(t.Context()) },
	} {
		for i := range 4 {
			conn, err := dial()
			require.Equal(t, map[bool]string{true: "s1"}[i < 2], answered(t, conn, err))
		}
	}
	require.InDelta(t, 6, pod.Metric("inbound_tcp_local_ratelimit_total", `authz_name="rarely"`), 0)
	// What the first proxy has counted and passes on does not count again.
	g.guard(t, pod, mesh.Inbound{Protocols: protocols, Split: &canary})
	for range 4 {
		conn, err := pod.DialOutside(t.Context())
		require.Equal(t, "k1", answered(t, conn, err))
	}
}

func TestRateLimitsInAuditMode(t *testing.T) {
	g := newGuarded(t, "s1")
	pod := g.pods[0]
	pod.Serve(named("s1"))
	access := asRarely(1)
	access.Limits[0].Mode = mesh.AccessAudit
	g.guard(t, pod, mesh.Inbound{Access: access, Protocols: map[uint16]mesh.Protocol{proxytest.AppPort: mesh.ProtocolHTTP1}})
	require.Contains(t, metricLines(pod, "sluice_ratelimit_audited_total"), `authz_name="rarely"} 0`, "there from the start")
	for range 3 {
		status, _ := askFor(t, g.friend.Client(), http.MethodGet, "/", "")
		require.Equal(t, http.StatusOK, status)
	}
	require.InDelta(t, 2, pod.Metric("sluice_ratelimit_audited_total", `client_id="`+g.identity("friend")+`"`), 0)
	require.Zero(t, pod.Metric("inbound_http_local_ratelimit_total"))
}

func TestRateLimitsOfGRPC(t *testing.T) {
	g := newGuarded(t, "s1")
	g.pods[0].Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "0")
	}))
	g.guard(t, g.pods[0], mesh.Inbound{Access: asRarely(1)})
	for _, want := range []string{"0", "8"} {
		response, err := g.friend.HTTP2Client().Post(shop+"/a.B/C", "application/grpc", strings.NewReader("\x00\x00\x00\x00\x00"))
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusOK, response.StatusCode)
		require.Equal(t, want, response.Header.Get("Grpc-Status"))
		if want == "0" {
			require.Empty(t, response.Header.Get("Grpc-Retry-Pushback-Ms"))
			continue
		}
		require.Equal(t, "rate_limited", response.Header.Get("Sluice-Error"))
		milliseconds, err := strconv.Atoi(response.Header.Get("Grpc-Retry-Pushback-Ms"))
		require.NoError(t, err)
		require.InDelta(t, 3_600_000, milliseconds, 60_000)
	}
	require.Eventually(t, func() bool {
		return g.friend.Metric("response_total", `grpc_status="8"`, `classification="success"`, `error="rate_limited"`) == 1
	}, time.Minute, time.Millisecond)
}

// What a peer passes on was counted by the peer: it counts once.
func TestHandedOffRequestsCountOnce(t *testing.T) {
	g := newGuarded(t, "s1", "k1")
	canary := split(0, 100)
	for _, pod := range g.pods {
		pod.Serve(named(pod.Spec.Hash))
		g.guard(t, pod, mesh.Inbound{Split: &canary, Access: asRarely(4)})
	}
	for _, to := range g.pods {
		client := to.OutsideClient()
		for i := range 6 {
			status, _ := askFor(t, client, http.MethodGet, "/", "")
			if i < 4 {
				require.Equal(t, http.StatusOK, status, "through %s", to.Spec.Name)
				continue
			}
			require.Equal(t, http.StatusTooManyRequests, status)
		}
	}
}

func TestAccessLogTellsOfRateLimits(t *testing.T) {
	l := newLogged(t, inJSON(), only(func(http.ResponseWriter, *http.Request) {})(""))
	pod := l.pods[0]
	l.Discovery.SetInbound(pod.Spec.Name, mesh.Inbound{Workload: pod.Spec.Workload, PodTemplateHash: pod.Spec.Hash, Access: asRarely(1)})
	l.Discovery.AwaitAcknowledged(t, pod.Spec.Name)
	for i, client := range []*http.Client{pod.OutsideClient(), pod.OutsideClient(), pod.OutsideHTTP2Client()} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop+"/a.B/C", strings.NewReader("x"))
		require.NoError(t, err)
		if i == 2 {
			request.Header.Set("Content-Type", "application/grpc")
		}
		fetch(t, client, request)
	}
	l.stop()
	var answers []string
	for _, line := range l.pod.lines(t) {
		answers = append(answers, strings.Join([]string{line.Version, strconv.Itoa(line.Status), line.GRPCStatus, line.Error}, " "))
	}
	require.ElementsMatch(t, []string{"HTTP/1.1 200  ", "HTTP/1.1 429  rate_limited", "HTTP/2.0 200 8 rate_limited"}, answers)
}
