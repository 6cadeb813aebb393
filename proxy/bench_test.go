// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// BenchmarkPair is a request through the outbound and the inbound proxy over mutual TLS, and directly
// for comparison; client and application are in the same process and count as well.
func BenchmarkPair(b *testing.B) {
	m := proxytest.New(b)
	caller := m.Start(proxytest.PodSpec{Name: "caller", Workload: "shop/caller", Hash: "c1"})
	callee := m.Start(proxytest.PodSpec{Name: "callee", Workload: "shop/shop", Hash: "s1"})
	callee.Serve(named("hello"))
	m.Discovery.SetDestination(mesh.Destination{
		Address:   shopVIP,
		Service:   mesh.Service{Namespace: "shop", Name: "shop", Port: 80},
		Endpoints: []mesh.Endpoint{callee.Endpoint()},
		Splits:    []mesh.Split{split(100, 0)},
	})
	direct := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.Cleanup(direct.CloseIdleConnections)
	for name, run := range map[string]struct {
		client *http.Client
		url    string
	}{
		"direct": {direct, "http://" + callee.Address(proxytest.AppPort) + "/"},
		"pair":   {caller.Client(), shop + "/"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(each *testing.PB) {
				for each.Next() {
					response, err := run.client.Get(run.url)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
				}
			})
		})
	}
}
