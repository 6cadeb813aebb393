// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// setInbound gives every pod of the workload a split and its peers.
func (p *pair) setInbound(t *testing.T, split *mesh.Split) {
	t.Helper()
	for _, pod := range p.pods {
		inbound := mesh.Inbound{Workload: pod.Spec.Workload, PodTemplateHash: pod.Spec.Hash, Split: split}
		for _, peer := range p.pods {
			if peer != pod {
				inbound.Peers = append(inbound.Peers, peer.Peer())
			}
		}
		p.Discovery.SetInbound(pod.Spec.Name, inbound)
	}
	for _, pod := range p.pods {
		p.Discovery.AwaitAcknowledged(t, pod.Spec.Name)
	}
}

func TestUnmeshedCallersFollowTheWeights(t *testing.T) {
	p, _ := newPair(t, []string{"s1", "k1"}, named)
	weights := split(75, 25)
	p.setInbound(t, &weights)
	const requests = 1000
	for _, pod := range p.pods {
		client := pod.OutsideClient()
		canary := 0
		for range requests {
			status, body := proxytest.Get(t, client, shop+"/")
			require.Equal(t, 200, status)
			if body == "k1" {
				canary++
			}
		}
		require.InDelta(t, requests*0.25, canary, requests*0.05, "through %s", pod.Spec.Name)
		require.InDelta(t, requests, pod.Metric("sluice_unsplit_requests_total", `outcome="shared"`), 0)
	}
	// Each request was served once, and counted where it was served.
	served := p.pods[0].Metric("response_total", `direction="inbound"`, `status_code="200"`) +
		p.pods[1].Metric("response_total", `direction="inbound"`, `status_code="200"`)
	require.InDelta(t, 2*requests, served, 0)
	// What a mesh proxy sends is never split again.
	client := p.caller.Client()
	before := p.pods[0].Metric("sluice_unsplit_requests_total")
	for range 20 {
		proxytest.Get(t, client, shop+"/")
	}
	require.InDelta(t, before, p.pods[0].Metric("sluice_unsplit_requests_total"), 0)
	require.Zero(t, p.pods[0].Metric("response_total", `direction="outbound"`, `classification="failure"`))
}

// What is drawn for a revision without a pod fails, and counts for that revision: not for that of the pod
// which it came to, and which the gate would hold it against.
func TestFailuresOfTheDrawnRevisionAreItsOwn(t *testing.T) {
	for hash, other := range map[string]string{"k1": "s1", "s1": "k1"} {
		t.Run("comes to "+hash, func(t *testing.T) {
			p, _ := newPair(t, []string{hash}, named)
			weights := split(100, 0)
			if other == "k1" {
				weights = split(0, 100)
			}
			p.setInbound(t, &weights)
			pod := p.pods[0]
			client := pod.OutsideClient()
			client.Transport.(*http.Transport).DisableKeepAlives = true
			failed := 0
			for range 10 {
				if status, _ := proxytest.Get(t, client, shop+"/"); status != http.StatusOK {
					failed++
				}
			}
			require.Zero(t, pod.Metric("response_total", `direction="inbound"`, `classification="failure"`))
			require.InDelta(t, 10, pod.Metric("response_total", `direction="outbound"`, `classification="failure"`,
				`dst_deployment="shop"`, fmt.Sprintf("dst_pod_template_hash=%q", other)), 0)
			// In need stable serves what was drawn for the canary, which was its failure all the same; a canary
			// without weight serves nothing.
			require.Equal(t, map[string]int{"k1": 10, "s1": 0}[hash], failed)
		})
	}
}

func TestProbesAndScrapesMeanThePod(t *testing.T) {
	p, _ := newPair(t, []string{"s1", "k1"}, func(hash string) http.Handler {
		if hash == "k1" {
			return nil // Nothing listens.
		}
		return named(hash)
	})
	canary := p.pods[1]
	weights := split(100, 0)
	p.setInbound(t, &weights)
	client := canary.OutsideClient()
	status, body := proxytest.Get(t, client, shop+"/")
	require.Equal(t, 200, status)
	require.Equal(t, "s1", body, "callers are served by stable")
	for name, prepare := range map[string]func(*http.Request){
		"own address and port": func(r *http.Request) { r.Host = canary.Address(proxytest.AppPort) },
		"own address":          func(r *http.Request) { r.Host = canary.IP.String() },
		"kubelet":              func(r *http.Request) { r.Header.Set("User-Agent", "kube-probe/1.36") },
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/", nil)
			require.NoError(t, err)
			prepare(request)
			response, err := client.Do(request)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, http.StatusServiceUnavailable, response.StatusCode, "no other pod may answer")
			require.Zero(t, canary.Metric("response_total", `direction="inbound"`, `classification="failure"`)-
				canary.Metric("response_total", `direction="inbound"`, `classification="failure"`, `route_name="probe"`),
				"what a probe saw is no evidence against the revision")
			require.NotZero(t, canary.Metric("response_total", `direction="inbound"`, `classification="failure"`, `route_name="probe"`))
		})
	}
}

func TestUnmeshedClientsAreSentAwayFromARevisionWithoutWeight(t *testing.T) {
	p, _ := newPair(t, []string{"s1", "k1"}, named)
	weights := split(100, 0)
	p.setInbound(t, &weights)
	for i, wantClose := range []bool{false, true} {
		response, err := p.pods[i].OutsideClient().Get(shop + "/")
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, "s1", string(body))
		require.Equal(t, wantClose, response.Close, p.pods[i].Spec.Name)
	}
}

// order posts an order, which comes back, and returns the head of the answer.
func order(t *testing.T, client *http.Client) *http.Response {
	t.Helper()
	response, err := client.Post(shop+"/", "text/plain", strings.NewReader("order"))
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, 200, response.StatusCode)
	require.Equal(t, "order", string(body))
	return response
}

func TestRefusingApplicationIsCoveredByPeers(t *testing.T) {
	serving := 0
	p, _ := newPair(t, []string{"s1", "s1"}, func(hash string) http.Handler {
		serving++
		if serving == 1 {
			return nil
		}
		return echo(hash)
	})
	p.setInbound(t, nil)
	for name, client := range map[string]*http.Client{"meshed": p.caller.Client(), "unmeshed": p.pods[0].OutsideClient()} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				response := order(t, client)
				if name == "meshed" {
					require.Equal(t, "spiffe://cluster.local/ns/shop/sa/default", response.Header.Get("X-Got-Sluice-Client-Id"))
				} else {
					require.Empty(t, response.Header.Get("X-Got-Sluice-Client-Id"))
				}
				require.Empty(t, response.Header.Get("X-Got-Sluice-Handoff"))
			}
		})
	}
}

func TestRequestsAreNotPassedInCircles(t *testing.T) {
	p, _ := newPair(t, []string{"s1", "s1", "s1"}, func(string) http.Handler { return nil })
	p.setInbound(t, nil)
	status, _ := proxytest.Get(t, p.caller.Client(), shop+"/")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Less(t, p.caller.Dials()+p.pods[0].Dials()+p.pods[1].Dials()+p.pods[2].Dials(), int64(20))
}

func TestClientIDsOfStrangersAreRemoved(t *testing.T) {
	var got atomic.Value
	p, _ := newPair(t, []string{"s1"}, func(string) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Clone()) })
	})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/", nil)
	require.NoError(t, err)
	request.Header["sluice-client-id"] = []string{"spiffe://cluster.local/ns/shop/sa/admin"}
	request.Header.Set("Sluice-Handoff", "1")
	response, err := p.pods[0].OutsideClient().Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	header := got.Load().(http.Header)
	require.Empty(t, header.Get("Sluice-Client-Id"))
	require.Empty(t, header.Get("Sluice-Handoff"))
}
