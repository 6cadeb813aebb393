// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// Both sides of a call tell the control plane of it while the workload has a split.
func TestTalliesAreSent(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "k1"}, only(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	client := p.caller.Client()
	for range 4 {
		proxytest.Get(t, client, shop+"/")
	}
	require.Nil(t, p.Discovery.Tally("caller"), "nobody wants to know")
	destination.Splits = []mesh.Split{split(0, 100)}
	p.Discovery.SetDestination(destination)
	full := split(0, 100)
	p.setInbound(t, &full)
	p.Discovery.AwaitAcknowledged(t, "caller")
	canary := p.pods[1].Spec.Name
	await := func(succeeded, failed uint64) uint64 {
		t.Helper()
		require.Eventually(t, func() bool {
			tally := p.Discovery.Tally(canary)
			return tally.GetServed().GetSucceeded() == succeeded && tally.GetServed().GetFailed() == failed
		}, time.Minute, 10*time.Millisecond)
		require.Eventually(t, func() bool {
			for _, called := range p.Discovery.Tally("caller").GetCalled() {
				if called.GetWorkload() == "shop/shop" && called.GetPodTemplateHash() == "k1" {
					return called.GetAnswered() == succeeded+failed && called.GetLost() == 0
				}
			}
			return false
		}, time.Minute, 10*time.Millisecond)
		return p.Discovery.Tally(canary).GetSession()
	}
	require.Eventually(t, func() bool { return p.Discovery.Tally(canary) != nil && p.Discovery.Tally("caller") != nil }, time.Minute, 10*time.Millisecond)
	for range 5 {
		proxytest.Get(t, client, shop+"/")
	}
	for range 2 {
		proxytest.Get(t, client, shop+"/bad")
	}
	session := await(5, 2)
	require.Zero(t, p.Discovery.Tally(p.pods[0].Spec.Name).GetServed().GetSucceeded())
	proxytest.Get(t, client, shop+"/bad")
	require.Equal(t, session, await(5, 3))
}
