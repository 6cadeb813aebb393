// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity"
)

const (
	// handshakeTime bounds the client's side of a TLS handshake. It is longer than a connect, as it waits
	// for two processors.
	handshakeTime = 3 * time.Second
	// acceptTime bounds the server's side. The client's ends first, and sends a request at once: a server
	// that gave up on its handshake at that moment would reset a connection on which a request is
	// under way that must not be sent twice.
	acceptTime = 10 * time.Second
)

var errNoMeshProtocol = errors.New("the peer does not speak the mesh's protocol")

// meshServerConfig is the TLS of the inbound side: any workload of the trust domain may come in.
func (p *Proxy) meshServerConfig() *tls.Config {
	config := identity.ServerConfig(p.options.Certificates, p.options.Bundles, p.options.ID.TrustDomain())
	config.NextProtos = []string{mesh.ALPNHTTP1, mesh.ALPNHTTP2, mesh.ALPNHandoff, mesh.ALPNTCP}
	giveTickets(config, p.options.Bundles, p.options.Now)
	return config
}

// acceptInTurn makes the server's side of a handshake when it is its turn.
func (p *Proxy) acceptInTurn(ctx context.Context, conn *servedConn) (_ *tls.Conn, client, protocol string, _ error) {
	leave, err := p.handshakes.begin(ctx)
	if err != nil {
		p.metrics.handshake(directionInbound, handshakeShed)
		return nil, "", "", err
	}
	defer leave()
	conn.beforeWait = leave
	secured, client, protocol, err := acceptMesh(ctx, conn, p.serverTLS)
	p.metrics.handshaken(directionInbound, secured)
	return secured, client, protocol, err
}

// acceptMesh makes the server's side of the handshake and returns who the client is and what it
// speaks.
func acceptMesh(ctx context.Context, conn net.Conn, config *tls.Config) (_ *tls.Conn, client, protocol string, _ error) {
	ctx, cancel := context.WithTimeout(ctx, acceptTime)
	defer cancel()
	secured := tls.Server(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, "", "", fmt.Errorf("TLS handshake with %s: %w", conn.RemoteAddr(), err)
	}
	state := secured.ConnectionState()
	id, err := identity.PeerID(&state)
	if err != nil {
		return nil, "", "", err
	}
	return secured, id.String(), state.NegotiatedProtocol, nil
}

// dialMesh makes the client's side of the handshake on a connection and demands exactly one peer.
func (u *upstreams) dialMesh(ctx context.Context, conn net.Conn, to linkKey, protocols []string) (net.Conn, error) {
	id, err := spiffeid.FromString(to.identity)
	if err != nil {
		return nil, fmt.Errorf("parse the identity to demand: %w", err)
	}
	config := identity.ClientConfig(u.certificates, u.bundles, id)
	config.NextProtos = protocols
	slot := u.sessions.use(config, to, u.certificates, u.bundles)
	secured := tls.Client(conn, config)
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	if err := secured.HandshakeContext(ctx); err != nil {
		u.metrics.handshake(directionOutbound, handshakeFailed)
		err = fmt.Errorf("TLS handshake with %s at %s: %w", to.identity, conn.RemoteAddr(), err)
		if slot.offered {
			slot.forget()
			err = &resumeError{err}
		}
		return nil, err
	}
	u.metrics.handshaken(directionOutbound, secured)
	if !slices.Contains(protocols, secured.ConnectionState().NegotiatedProtocol) {
		return nil, fmt.Errorf("%w: %s at %s", errNoMeshProtocol, to.identity, conn.RemoteAddr())
	}
	return secured, nil
}

// resumeError is a handshake that failed and had been begun with a session, which is forgotten: the next
// begins without.
type resumeError struct{ err error }

func (e *resumeError) Error() string { return e.err.Error() }
func (e *resumeError) Unwrap() error { return e.err }

// noIdentity is the source of a proxy without an identity: it carries plaintext only.
type noIdentity struct{}

func (noIdentity) Certificate() (*tls.Certificate, error) { return nil, identity.ErrNoCertificate }

func (noIdentity) Bundle() (*x509.CertPool, error) { return x509.NewCertPool(), nil }
