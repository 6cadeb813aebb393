// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// TestFailingPodsAreLeftOut: after their failures in a row, for their time, unless revisions are compared.
func TestFailingPodsAreLeftOut(t *testing.T) {
	for name, clientOf := range map[string]func(*proxytest.Pod) *http.Client{
		"HTTP/1.1": (*proxytest.Pod).Client, "HTTP/2": (*proxytest.Pod).HTTP2Client,
	} {
		t.Run(name, func(t *testing.T) {
			p, destination := pairThatFails(t)
			destination.OutlierEjection = &mesh.OutlierEjection{
				ConsecutiveFailures: 1, Interval: 10_000, BaseTime: 3_600_000, MaxTime: 3_600_000, MaxPercent: 50,
			}
			p.Discovery.SetDestination(destination)
			awaitKnown(t, p)
			client := clientOf(p.caller)
			failed := func(requests int) (failed int) {
				for range requests {
					if status, _ := proxytest.Get(t, client, shop+"/"); status != http.StatusOK {
						failed++
					}
				}
				return failed
			}
			ejections := func(outcome string) float64 {
				return p.caller.Metric("sluice_outlier_ejections_total", `dst_namespace="shop"`, `dst_service="shop"`,
					`reason="consecutive_failures"`, `outcome="`+outcome+`"`)
			}
			require.Zero(t, ejections("ejected"))
			require.Equal(t, 1, failed(200))
			require.InDelta(t, 1, ejections("ejected"), 0)
			require.Zero(t, ejections("capped"))
			require.InDelta(t, 1, p.caller.Metric("sluice_outlier_ejected_endpoints", `dst_service="shop"`), 0)

			destination.Splits = []mesh.Split{split(100, 0)}
			p.Discovery.SetDestination(destination)
			p.Discovery.AwaitAcknowledged(t, "caller")
			require.InDelta(t, 100, failed(300), 40, "while revisions are compared it gets its even share")
			require.InDelta(t, 1, ejections("ejected"), 0)
			destination.Splits = nil
			p.Discovery.SetDestination(destination)
			p.Discovery.AwaitAcknowledged(t, "caller")
			require.LessOrEqual(t, failed(100), 1)
		})
	}
}
