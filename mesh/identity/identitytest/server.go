// SPDX-License-Identifier: Apache-2.0

package identitytest

import (
	"io"
	"log"
	"net"
	"net/http"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh/identity"
)

// ControlPlaneID is the SPIFFE ID that ServeControlPlane proves.
func (c *CA) ControlPlaneID() spiffeid.ID { return c.ID("sluice-system", "sluice-mesh") }

// ServeControlPlane serves Identity, and what else the mux has, over TLS as the mesh control plane
// does, until the test ends or stop is called. It returns the host:port.
func (c *CA) ServeControlPlane(t testing.TB, mux *http.ServeMux) (address string, stop func()) {
	t.Helper()
	mux.Handle(c.Handler())
	config := identity.BootstrapServerConfig(c.Source(t, "sluice-system", "sluice-mesh"), c, c.TrustDomain)
	server := &http.Server{Handler: mux, TLSConfig: config, ErrorLog: log.New(io.Discard, "", 0)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ServeTLS(listener, "", "") // Ends with ErrServerClosed.
	}()
	stop = func() {
		_ = server.Close()
		<-done
	}
	t.Cleanup(stop)
	return listener.Addr().String(), stop
}
