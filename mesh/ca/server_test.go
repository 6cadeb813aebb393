// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"context"
	"crypto/elliptic"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// attesterFunc stands for the API server; the harness test has the real one.
type attesterFunc func(token string) (Claims, error)

func (f attesterFunc) Attest(_ context.Context, token string) (Claims, error) { return f(token) }

func TestCertifyAnswers(t *testing.T) {
	own := request(t, ecdsaKey(t, elliptic.P256()), withNames(uriName(ownURI)))
	server := NewServer(newTestIssuer(t), attesterFunc(func(token string) (Claims, error) {
		switch token {
		case "good":
			return testClaims, nil
		case "other":
			return Claims{Namespace: "bank", ServiceAccount: "teller"}, nil
		case "away":
			return Claims{}, errors.New("connection refused by 10.0.0.1")
		default:
			return Claims{}, ErrToken
		}
	}), logr.Discard())

	response, err := server.Certify(t.Context(), &meshpb.CertifyRequest{Token: "good", CertificateSigningRequest: own})
	require.NoError(t, err)
	require.Len(t, response.GetCertificates(), 1)
	require.Len(t, response.GetTrustAnchors(), 1)

	for token, code := range map[string]connect.Code{
		"bad": connect.CodeUnauthenticated, "other": connect.CodeInvalidArgument, "away": connect.CodeUnavailable,
	} {
		_, err := server.Certify(t.Context(), &meshpb.CertifyRequest{Token: token, CertificateSigningRequest: own})
		require.Equal(t, code, connect.CodeOf(err), token)
		require.NotContains(t, err.Error(), "10.0.0.1", "no caller learns of our insides")
	}
}

// TestProxyGetsItsCertificate runs the proxy's real client against the real server over TLS.
func TestProxyGetsItsCertificate(t *testing.T) {
	issuer := newTestIssuer(t)
	server := NewServer(issuer, attesterFunc(func(token string) (Claims, error) {
		if token != "token of checkout" {
			return Claims{}, ErrToken
		}
		return testClaims, nil
	}), testr.New(t))
	address := serve(t, issuer, server)

	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("token of checkout\n"), 0o600))
	anchors, err := identity.ParseAnchors(issuer.Anchors())
	require.NoError(t, err)
	client, err := identity.NewClient(identity.ClientOptions{
		ID: spiffeIDOf(t), ControlPlane: address, Anchors: anchors, TokenFile: file,
		ControlPlaneID: spiffeid.RequireFromString("spiffe://cluster.local/ns/sluice-system/sa/sluice-mesh"),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	select {
	case <-client.Ready():
	case <-time.After(10 * time.Second):
		require.Fail(t, "no certificate in 10 s")
	}
	cancel()
	require.NoError(t, <-done)
	require.Equal(t, testNow.Add(leafLife).UTC(), client.NotAfter())
}

func TestOversizedMessagesAreRefused(t *testing.T) {
	issuer := newTestIssuer(t)
	server := NewServer(issuer, attesterFunc(func(string) (Claims, error) { return testClaims, nil }), logr.Discard())
	address := serve(t, issuer, server)
	config := identity.ClientConfig(nil, issuer, spiffeid.RequireFromString("spiffe://cluster.local/ns/sluice-system/sa/sluice-mesh"))
	config.NextProtos = []string{"h2"}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := meshpb.NewIdentityClient(&http.Client{Transport: transport}, "https://"+address, connect.WithGRPC())
	_, err := client.Certify(t.Context(), &meshpb.CertifyRequest{Token: string(make([]byte, maxMessageBytes+1))})
	require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err))
}

func serve(t *testing.T, issuer *Issuer, server *Server) string {
	t.Helper()
	serving, err := issuer.Serving("sluice-system", "sluice-mesh")
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle(server.Handler())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := &http.Server{Handler: mux, TLSConfig: identity.BootstrapServerConfig(serving, issuer, testDomain)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = served.ServeTLS(listener, "", "") // Ends with ErrServerClosed.
	}()
	t.Cleanup(func() {
		require.NoError(t, served.Close())
		<-done
	})
	return listener.Addr().String()
}

func spiffeIDOf(t testing.TB) spiffeid.ID {
	t.Helper()
	id, err := identity.ForServiceAccount(testDomain, testClaims.Namespace, testClaims.ServiceAccount)
	require.NoError(t, err)
	return id
}
