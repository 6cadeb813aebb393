// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/mesh/identity/identitytest"
)

// lateConn writes later than it says.
type lateConn struct {
	net.Conn
	by time.Duration
}

func (c *lateConn) Write(p []byte) (int, error) {
	timer := time.NewTimer(c.by)
	<-timer.C
	return c.Conn.Write(p)
}

// A client that was just in time with its side of the handshake has sent a request. Who accepts must
// not be the one that gives up.
func TestWhoAcceptsIsMorePatientThanWhoConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := identitytest.New(t)
		serverConfig := identity.ServerConfig(ca.Source(t, "shop", "server"), ca, ca.ID("shop", "server").TrustDomain())
		serverConfig.NextProtos = []string{mesh.ALPNHTTP1}
		clientConfig := identity.ClientConfig(ca.Source(t, "shop", "client"), ca, ca.ID("shop", "server"))
		clientConfig.NextProtos = []string{mesh.ALPNHTTP1}
		near, far := net.Pipe()
		accepted := make(chan error, 1)
		go func() {
			_, _, _, err := acceptMesh(t.Context(), far, serverConfig)
			accepted <- err
		}()
		client := tls.Client(&lateConn{near, 2 * handshakeTime / 3}, clientConfig)
		require.NoError(t, client.HandshakeContext(t.Context()), "hello and finish, each nearly too late")
		require.NoError(t, <-accepted)
		require.NoError(t, near.Close())
		require.NoError(t, far.Close())
	})
}
