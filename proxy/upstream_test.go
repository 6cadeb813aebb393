// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

// Handshakes wait for each other: a hundred requests without a connection must not make a hundred
// handshakes that starve one another.
func TestFewConnectionsAreOpenedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dialled atomic.Int32
		u := newUpstreams(Options{
			Certificates: noIdentity{}, Bundles: noIdentity{},
			Dial: func(context.Context, string) (net.Conn, error) {
				dialled.Add(1)
				client, server := net.Pipe() // Nobody answers the handshake.
				t.Cleanup(func() { _ = server.Close() })
				return client, nil
			},
		}, testMetrics())
		ctx, cancel := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		for range 3 * openingMost {
			asking.Go(func() {
				_, err := u.connect(ctx, hop{address: "10.0.0.1:80", identity: "spiffe://cluster.local/ns/shop/sa/shop"}, mesh.ALPNHTTP1)
				require.Error(t, err)
			})
		}
		synctest.Wait()
		require.EqualValues(t, openingMost, dialled.Load())
		cancel()
		asking.Wait()
		require.Empty(t, u.opening, "every place is given back")
	})
}
