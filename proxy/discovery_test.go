// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

func TestOpenCountsAreReported(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{})
	p, destination := newPair(t, []string{"s1", "k1"}, only(func(_ http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-release
	}))
	destination.Splits = []mesh.Split{split(0, 100)}
	p.Discovery.SetDestination(destination)
	full := split(0, 100)
	p.setInbound(t, &full)
	finished := make(chan error, 1)
	go func() {
		response, err := p.caller.Client().Get(shop + "/")
		if err == nil {
			err = response.Body.Close()
		}
		finished <- err
	}()
	<-entered
	// The weights change; the acknowledgement carries what is still open.
	destination.Splits = []mesh.Split{split(100, 0)}
	p.Discovery.SetDestination(destination)
	report := p.Discovery.AwaitAcknowledged(t, "caller")
	require.Equal(t, map[string]uint64{"shop/shop k1": 1}, openRequests(report))
	require.Eventually(t, func() bool { return openRequests(p.Discovery.Report(p.pods[1].Spec.Name))["shop/shop k1"] == 1 },
		time.Minute, 5*time.Millisecond, "the callee's proxy counts what its application serves")
	close(release)
	require.NoError(t, <-finished)
	for _, pod := range []string{"caller", p.pods[1].Spec.Name} {
		require.Eventually(t, func() bool { return len(p.Discovery.Report(pod).GetOpen()) == 0 }, time.Minute, 5*time.Millisecond, pod)
	}
}

func openRequests(report *meshpb.Report) map[string]uint64 {
	open := map[string]uint64{}
	for _, count := range report.GetOpen() {
		open[count.GetWorkload()+" "+count.GetPodTemplateHash()] = count.GetRequests() + 100*count.GetConnections()
	}
	return open
}

func TestOpenConnectionsAreReported(t *testing.T) {
	p, destination := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	destination.Splits = []mesh.Split{split(100, 0)}
	p.Discovery.SetDestination(destination)
	serveTCP(t, p.pods[0].Listen(), func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
	conn, err := p.caller.DialApp(t.Context(), shopVIP)
	require.NoError(t, err)
	_, err = conn.Write([]byte{0})
	require.NoError(t, err)
	_, err = io.ReadFull(conn, make([]byte, 1))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return openRequests(p.Discovery.Report("caller"))["shop/shop s1"] == 100 }, time.Minute, 5*time.Millisecond)
	require.NoError(t, conn.Close())
	require.Eventually(t, func() bool { return len(p.Discovery.Report("caller").GetOpen()) == 0 }, time.Minute, 5*time.Millisecond)
}

func TestConfigDump(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, named)
	proxytest.Get(t, p.caller.Client(), shop+"/")
	status, text := p.caller.AdminGet("/config_dump")
	require.Equal(t, 200, status)
	var dump struct {
		Stale    bool
		Snapshot mesh.Snapshot
	}
	require.NoError(t, json.Unmarshal([]byte(text), &dump))
	require.False(t, dump.Stale)
	require.Contains(t, dump.Snapshot.Destinations, shopVIP)
	require.Equal(t, "shop/caller", dump.Snapshot.Inbound.Workload)
	p.StopControlPlane()
	require.Eventually(t, func() bool {
		_, text := p.caller.AdminGet("/config_dump")
		return json.Unmarshal([]byte(text), &dump) == nil && dump.Stale
	}, time.Minute, 5*time.Millisecond)
}

func TestUnknownAddressesAreForwardedTo(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, named)
	stranger := p.Start(proxytest.PodSpec{Name: "stranger", Workload: "shop/stranger", Hash: "x1"})
	stranger.Serve(named("stranger"))
	status, body := proxytest.Get(t, p.caller.Client(), "http://"+stranger.Address(proxytest.AppPort)+"/")
	require.Equal(t, 200, status)
	require.Equal(t, "stranger", body)
	require.True(t, p.Discovery.Subscribed("caller", stranger.Address(proxytest.AppPort)))
}

func TestPodAddressByItsOwnHostIsThatPod(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "k1"}, named)
	canary := p.pods[1].Address(proxytest.AppPort)
	destination.Address, destination.PodAddress = canary, true
	destination.Splits = []mesh.Split{split(100, 0)}
	p.Discovery.SetDestination(destination)
	client := p.caller.Client()
	_, body := proxytest.Get(t, client, "http://"+canary+"/")
	require.Equal(t, "k1", body, "a scrape of the pod")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+canary+"/", nil)
	require.NoError(t, err)
	request.Host = "shop"
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, "s1", string(got), "a headless Service's caller means the workload")
}
