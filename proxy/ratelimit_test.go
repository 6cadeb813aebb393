// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

// asRarely lets each client ask so often at once and, as far as a test lasts, never again.
func asRarely(burst uint32) *mesh.Access {
	return &mesh.Access{Default: mesh.AccessAllow, Limits: []mesh.RateLimit{{Name: "rarely", Interval: time.Hour, Burst: burst}}}
}

func TestRateLimitsOfRequests(t *testing.T) {
	g := newGuarded(t, "s1")
	pod := g.pods[0]
	pod.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
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
	// No gate holds it against a revision.
	for _, from := range []string{"friend", "stranger"} {
		caller := g.friend
		if from == "stranger" {
			caller = g.stranger
		}
		require.Zero(t, caller.Metric("response_total", `classification="failure"`), from)
		require.InDelta(t, 3, caller.Metric("response_total", `status_code="429"`, `classification="success"`), 0)
	}
	require.Zero(t, pod.Metric("response_total", `classification="failure"`))
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
		require.Equal(t, want, response.Header.Get("Grpc-Status"))
	}
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
