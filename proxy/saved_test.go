// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
	"github.com/sluice-mesh/sluice/mesh/statefile"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// awaitSaved waits until a configuration was kept for which yes returns true.
func awaitSaved(t *testing.T, file string, yes func(*meshpb.WatchResponse) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		content, err := statefile.Read(file)
		saved := &meshpb.WatchResponse{}
		return err == nil && proto.Unmarshal(content, saved) == nil && yes(saved)
	}, time.Minute, time.Millisecond, "the configuration was not kept")
}

// TestProxyStartsWhileTheControlPlaneIsAway: it serves with what the one before it was told.
func TestProxyStartsWhileTheControlPlaneIsAway(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "k1"}, named)
	weights := split(0, 100)
	weights.Matches = []mesh.RequestMatch{{Path: mesh.NewValueMatch("", mesh.MatchPrefix, "/stable"), Method: http.MethodPut}}
	destination.Splits = []mesh.Split{weights}
	p.Discovery.SetDestination(destination)
	file := filepath.Join(t.TempDir(), "configuration")
	spec := proxytest.PodSpec{Name: "restarted", Workload: "shop/caller", Hash: "c1", StateFile: file, Inbound: mesh.Inbound{
		Protocols: map[uint16]mesh.Protocol{proxytest.AppPort: mesh.ProtocolHTTP1},
	}}
	before := p.Start(spec)
	_, body := proxytest.Get(t, before.Client(), shop+"/")
	require.Equal(t, "k1", body)
	awaitSaved(t, file, func(saved *meshpb.WatchResponse) bool {
		return len(saved.GetDestinations()) == 1 && len(saved.GetInbound().GetProtocols()) == 1
	})
	before.Stop()
	p.StopControlPlane()

	after := p.Start(spec)
	after.Serve(named("restarted"))
	for name, client := range map[string]*http.Client{"HTTP/1.1": after.Client(), "HTTP/2": after.HTTP2Client()} {
		for range 10 {
			_, body := proxytest.Get(t, client, shop+"/")
			require.Equal(t, "k1", body, name)
		}
	}
	require.Positive(t, after.Metric("response_total", `direction="outbound"`, `tls="true"`, `dst_pod_template_hash="k1"`))
	_, body = proxytest.Get(t, after.OutsideClient(), "http://shop/")
	require.Equal(t, "restarted", body)
	_, dump := after.AdminGet("/config_dump")
	require.Contains(t, dump, `"stale": true`)
	require.Contains(t, dump, `"protocols"`)
}

// TestTheControlPlaneReplacesWhatWasKept: what was kept is in force until it answers and no longer.
func TestTheControlPlaneReplacesWhatWasKept(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "k1"}, named)
	file := filepath.Join(t.TempDir(), "configuration")
	old := destination
	old.Splits = []mesh.Split{split(0, 100)}
	gone := mesh.Destination{Address: "10.99.0.9:80", Endpoints: []mesh.Endpoint{p.pods[0].Endpoint()}}
	content, err := proto.Marshal(&meshpb.WatchResponse{
		Destinations: []*meshpb.Destination{meshpb.FromDestination(&old), meshpb.FromDestination(&gone)},
		Inbound:      meshpb.FromInbound(&mesh.Inbound{Workload: "shop/other"}),
	})
	require.NoError(t, err)
	require.NoError(t, statefile.Write(file, content))
	destination.Splits = []mesh.Split{split(100, 0)}
	p.Discovery.SetDestination(destination)
	p.Discovery.SetDestination(mesh.Destination{Address: gone.Address, Unknown: true})
	restarted := p.Start(proxytest.PodSpec{Name: "restarted", Workload: "shop/caller", Hash: "c1", StateFile: file})
	require.Eventually(t, func() bool { return p.Discovery.Subscribed("restarted", shopVIP) }, time.Minute, time.Millisecond)
	p.Discovery.AwaitAcknowledged(t, "restarted")
	_, body := proxytest.Get(t, restarted.Client(), shop+"/")
	require.Equal(t, "s1", body)
	awaitSaved(t, file, func(saved *meshpb.WatchResponse) bool {
		return len(saved.GetDestinations()) == 1 && saved.GetInbound().GetWorkload() == "shop/caller"
	})
}

// TestDamagedConfigurationIsNotUsed: the proxy waits for the control plane, as without one.
func TestDamagedConfigurationIsNotUsed(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, named)
	file := filepath.Join(t.TempDir(), "configuration")
	require.NoError(t, statefile.Write(file, nil))
	for name, damage := range map[string]func() error{
		"empty": func() error { return statefile.Write(file, nil) },
		"noise": func() error { return statefile.Write(file, []byte("noise")) },
		"cut":   func() error { return os.Truncate(file, 10) },
	} {
		require.NoError(t, damage())
		pod := p.Start(proxytest.PodSpec{Name: "restarted-" + name, Workload: "shop/caller", Hash: "c1", StateFile: file})
		_, body := proxytest.Get(t, pod.Client(), shop+"/")
		require.Equal(t, "s1", body)
		awaitSaved(t, file, func(saved *meshpb.WatchResponse) bool { return len(saved.GetDestinations()) == 1 })
	}
}
