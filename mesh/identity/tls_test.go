// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/mesh/identity/identitytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPeersProveWhoTheyAre(t *testing.T) {
	authority, stranger := identitytest.New(t), identitytest.New(t)
	server, client := authority.ID("shop", "checkout"), authority.ID("shop", "frontend")
	source := func(ca *identitytest.CA, id spiffeid.ID, spoil func(*x509.Certificate)) identitytest.Source {
		leaf := identitytest.Leaf(id)
		if spoil != nil {
			spoil(leaf)
		}
		return identitytest.Source{TLS: ca.Sign(t, leaf)}
	}
	cases := map[string]struct {
		server, client  identitytest.Source
		expect          spiffeid.ID
		serverErr       string
		clientErr       string
		clientUndecided bool // with TLS 1.3 a client learns of its refusal only by reading
	}{
		"both good": {
			server: source(authority, server, nil), client: source(authority, client, nil), expect: server,
		},
		"server is somebody else": {
			server: source(authority, authority.ID("shop", "cart"), nil), client: source(authority, client, nil), expect: server,
			clientErr: "wrong peer", serverErr: "bad certificate",
		},
		"server of the same name by another authority": {
			server: source(stranger, server, nil), client: source(authority, client, nil), expect: server,
			clientErr: "unknown authority", serverErr: "bad certificate",
		},
		"client by another authority": {
			server: source(authority, server, nil), client: source(stranger, client, nil), expect: server,
			serverErr: "unknown authority", clientUndecided: true,
		},
		"client of another trust domain": {
			server: source(authority, server, nil),
			client: source(authority, spiffeid.RequireFromString("spiffe://elsewhere/ns/shop/sa/frontend"), nil), expect: server,
			serverErr: "wrong peer", clientUndecided: true,
		},
		"expired client": {
			server: source(authority, server, nil),
			client: source(authority, client, func(leaf *x509.Certificate) { leaf.NotAfter = time.Now().Add(-time.Minute) }), expect: server,
			serverErr: "expired", clientUndecided: true,
		},
		"client with two names": {
			server: source(authority, server, nil),
			client: source(authority, client, func(leaf *x509.Certificate) {
				leaf.URIs = append(leaf.URIs, &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop/sa/admin"})
			}), expect: server,
			serverErr: "2 URI names", clientUndecided: true,
		},
		"client with a signing certificate": {
			server: source(authority, server, nil),
			client: source(authority, client, func(leaf *x509.Certificate) {
				leaf.IsCA, leaf.BasicConstraintsValid = true, true
				leaf.KeyUsage |= x509.KeyUsageCertSign
			}), expect: server,
			serverErr: "may sign certificates", clientUndecided: true,
		},
		"client with a server's certificate": {
			server: source(authority, server, nil),
			client: source(authority, client, func(leaf *x509.Certificate) {
				leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			}), expect: server,
			serverErr: "incompatible key usage", clientUndecided: true,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			state, serverErr, clientErr := handshake(t,
				identity.ServerConfig(c.server, authority, authority.TrustDomain),
				identity.ClientConfig(c.client, authority, c.expect))
			requireError(t, c.serverErr, serverErr)
			if !c.clientUndecided {
				requireError(t, c.clientErr, clientErr)
			}
			if c.serverErr == "" {
				id, err := identity.PeerID(&state)
				require.NoError(t, err)
				require.Equal(t, client, id)
				require.Equal(t, uint16(tls.VersionTLS13), state.Version)
				require.Equal(t, tls.X25519MLKEM768, state.CurveID)
			}
		})
	}
}

func TestServerDemandsACertificateAndBootstrapServerDoesNot(t *testing.T) {
	authority := identitytest.New(t)
	own := authority.Source(t, "shop", "checkout")
	client := identity.ClientConfig(nil, authority, authority.ID("shop", "checkout"))

	_, serverErr, _ := handshake(t, identity.ServerConfig(own, authority, authority.TrustDomain), client)
	requireError(t, "didn't provide a certificate", serverErr)

	state, serverErr, clientErr := handshake(t, identity.BootstrapServerConfig(own, authority, authority.TrustDomain), client)
	require.NoError(t, serverErr)
	require.NoError(t, clientErr)
	require.Empty(t, state.PeerCertificates)

	stranger := identitytest.New(t).Source(t, "shop", "frontend")
	_, serverErr, _ = handshake(t, identity.BootstrapServerConfig(own, authority, authority.TrustDomain),
		identity.ClientConfig(stranger, authority, authority.ID("shop", "checkout")))
	requireError(t, "unknown authority", serverErr)
}

func TestOnlyTLS13(t *testing.T) {
	authority := identitytest.New(t)
	old := identity.ClientConfig(authority.Source(t, "shop", "frontend"), authority, authority.ID("shop", "checkout"))
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	_, serverErr, _ := handshake(t,
		identity.ServerConfig(authority.Source(t, "shop", "checkout"), authority, authority.TrustDomain), old)
	requireError(t, "unsupported versions", serverErr)
}

// handshake runs both sides to their end and returns the server's view of the connection.
func handshake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	done := make(chan error, 1)
	go func() {
		raw, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			done <- err
			return
		}
		defer raw.Close()
		done <- tls.Client(raw, client).HandshakeContext(t.Context())
	}()
	raw, err := listener.Accept()
	require.NoError(t, err)
	connection := tls.Server(raw, server)
	serverErr = connection.HandshakeContext(t.Context())
	raw.Close()
	return connection.ConnectionState(), serverErr, <-done
}

func requireError(t *testing.T, contains string, err error) {
	t.Helper()
	if contains == "" {
		require.NoError(t, err)
		return
	}
	require.ErrorContains(t, err, contains)
}
