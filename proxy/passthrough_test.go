// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// serveTLS runs an application that ends TLS itself and says its name.
func serveTLS(t *testing.T, listener net.Listener, name string) {
	t.Helper()
	server := httptest.NewUnstartedServer(named(name))
	_ = server.Listener.Close()
	server.Listener = listener
	server.StartTLS()
	t.Cleanup(server.Close)
}

// TestTLSOfApplicationsIsCarried: its connections follow the weights, and their server's name is shown.
func TestTLSOfApplicationsIsCarried(t *testing.T) {
	for name, protocol := range map[string]mesh.Protocol{"detected": mesh.ProtocolDetect, "declared": mesh.ProtocolTCP} {
		t.Run(name, func(t *testing.T) {
			p, destination := newPair(t, []string{"s1", "k1"}, func(string) http.Handler { return nil })
			for _, pod := range p.pods {
				serveTLS(t, pod.Listen(), pod.Spec.Hash)
			}
			half := split(50, 50)
			destination.Splits, destination.Protocol = []mesh.Split{half}, protocol
			p.Discovery.SetDestination(destination)
			p.setInbound(t, &half)
			for side, dial := range map[string]func() (net.Conn, error){
				"meshed":   func() (net.Conn, error) { return p.caller.DialApp(t.Context(), shopVIP) },
				"unmeshed": func() (net.Conn, error) { return p.pods[0].DialOutside(t.Context()) },
			} {
				canary := 0
				for range 40 {
					conn, err := dial()
					require.NoError(t, err)
					require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
					secured := tls.Client(conn, &tls.Config{ServerName: side + ".Example", InsecureSkipVerify: true}) //nolint:gosec // The name is what is looked at.
					if whoIs(t, secured) == "k1" {
						canary++
					}
					require.NoError(t, secured.Close())
				}
				require.InDelta(t, 20, canary, 16, side)
			}
			require.InDelta(t, 40, p.caller.Metric("sluice_tls_passthrough_total", `direction="outbound"`, `server_name="meshed.example"`), 0)
			inbound := 0.0
			for _, pod := range p.pods {
				inbound += pod.Metric("sluice_tls_passthrough_total", `direction="inbound"`, `server_name="meshed.example"`)
			}
			require.InDelta(t, 40, inbound, 0)
			require.InDelta(t, 40, p.pods[0].Metric("sluice_tls_passthrough_total", `direction="inbound"`, `server_name="unmeshed.example"`), 0)
		})
	}
}

// whoIs asks who is at the other side of a connection.
func whoIs(t *testing.T, conn net.Conn) string {
	t.Helper()
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(body)
}

func TestServerNamesAreShown(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	serveTLS(t, p.pods[0].Listen(), "s1")
	conn, err := p.caller.DialApp(t.Context(), shopVIP)
	require.NoError(t, err)
	defer conn.Close()
	secured := tls.Client(conn, &tls.Config{ServerName: "shop.example", InsecureSkipVerify: true}) //nolint:gosec // As above.
	require.NoError(t, secured.HandshakeContext(t.Context()))
	for _, pod := range append(p.pods, p.caller) {
		open := connectionsOf(t, pod).Open
		require.Len(t, open, 1)
		require.Equal(t, "shop.example", open[0].ServerName)
	}
}

// TestServerNamesMoveNobody: a connection goes where it was dialled, whatever server its TLS asks for. Who
// dials decides what is in there, and an address that the mesh does not know may be another's, as that of
// an ExternalName is.
func TestServerNamesMoveNobody(t *testing.T) {
	p, destination := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	other := p.Start(proxytest.PodSpec{Name: "other", Workload: "shop/other", Hash: "o1"})
	serveTLS(t, p.pods[0].Listen(), "shop")
	serveTLS(t, other.Listen(), "other")
	const known, unknown = "10.99.0.2:443", "192.0.2.7:443"
	elsewhere := destination
	elsewhere.Address, elsewhere.Endpoints = known, []mesh.Endpoint{other.Endpoint()}
	elsewhere.Service.Name = "other"
	p.Discovery.SetDestination(elsewhere)
	p.Forward(unknown, other.Endpoint().Address)
	for _, address := range []string{known, unknown} {
		for _, name := range []string{"shop", "shop.shop", "shop.shop.svc", "shop.shop.svc.cluster.local"} {
			conn, err := p.caller.DialApp(t.Context(), address)
			require.NoError(t, err)
			require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
			secured := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true}) //nolint:gosec // As above.
			require.Equal(t, "other", whoIs(t, secured), "%s by way of %s", name, address)
			require.NoError(t, secured.Close())
		}
	}
	require.InDelta(t, 2, p.caller.Metric("sluice_tls_passthrough_total", `direction="outbound"`, `server_name="shop.shop.svc"`), 0)
}
