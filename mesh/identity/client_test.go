// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/mesh/identity/identitytest"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

func TestClientObtainsAndRenews(t *testing.T) {
	authority := identitytest.New(t)
	authority.Life = 5*time.Minute + 10*time.Second // most of it is back-dated: always due for renewal
	address, _ := authority.ServeControlPlane(t, http.NewServeMux())
	client := newClient(t, authority, address, tokenFile(t, "shop/checkout\n"))
	require.True(t, client.NotAfter().IsZero())
	_, err := client.Certificate()
	require.ErrorIs(t, err, identity.ErrNoCertificate)

	run(t, client)
	await(t, client)
	first, err := client.Certificate()
	require.NoError(t, err)
	require.Equal(t, first.Leaf.NotAfter, client.NotAfter())
	id, err := identity.FromCertificate(first.Leaf)
	require.NoError(t, err)
	require.Equal(t, authority.ID("shop", "checkout"), id)

	require.Eventually(t, func() bool {
		now, err := client.Certificate()
		return err == nil && now != first && !first.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(now.Leaf.PublicKey)
	}, 10*time.Second, 20*time.Millisecond, "a renewed certificate has a new key")
}

func TestClientRereadsTheTokenAndRetries(t *testing.T) {
	authority := identitytest.New(t)
	address, _ := authority.ServeControlPlane(t, http.NewServeMux())
	file := tokenFile(t, "shop/somebody-else")
	client := newClient(t, authority, address, file)
	run(t, client)

	require.Never(t, func() bool { return isReady(client) }, 300*time.Millisecond, 50*time.Millisecond)
	require.NoError(t, os.WriteFile(file, []byte("shop/checkout"), 0o600))
	await(t, client)
}

func TestClientRefusesAnotherControlPlane(t *testing.T) {
	authority, impostor := identitytest.New(t), identitytest.New(t)
	asked := make(chan struct{}, 100)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) { asked <- struct{}{} })
	address, _ := impostor.ServeControlPlane(t, mux)
	client := newClient(t, authority, address, tokenFile(t, "shop/checkout"))
	run(t, client)
	require.Never(t, func() bool { return isReady(client) || len(asked) > 0 }, 300*time.Millisecond, 50*time.Millisecond)
}

func TestNewClientNamesWhatIsMissing(t *testing.T) {
	authority := identitytest.New(t)
	whole := identity.ClientOptions{
		ID: authority.ID("shop", "checkout"), ControlPlane: "127.0.0.1:1",
		ControlPlaneID: authority.ControlPlaneID(), Anchors: []*x509.Certificate{authority.Root},
	}
	for want, spoil := range map[string]func(*identity.ClientOptions){
		"ID is not set":             func(o *identity.ClientOptions) { o.ID = spiffeid.ID{} },
		"ControlPlane is not set":   func(o *identity.ClientOptions) { o.ControlPlane = "" },
		"ControlPlaneID is not set": func(o *identity.ClientOptions) { o.ControlPlaneID = spiffeid.ID{} },
		"no trust anchor":           func(o *identity.ClientOptions) { o.Anchors = nil },
	} {
		options := whole
		spoil(&options)
		_, err := identity.NewClient(options)
		require.ErrorContains(t, err, want)
	}
}

func TestParseAnchors(t *testing.T) {
	one, other := identitytest.New(t), identitytest.New(t)
	anchors, err := identity.ParseAnchors([]byte(one.AnchorsPEM() + "\n" + other.AnchorsPEM()))
	require.NoError(t, err)
	require.Equal(t, []*x509.Certificate{one.Root, other.Root}, anchors)

	_, err = identity.ParseAnchors([]byte("nothing"))
	require.ErrorIs(t, err, identity.ErrNoAnchors)
	_, err = identity.ParseAnchors([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	require.ErrorContains(t, err, "parse trust anchor 1")
}

func newClient(t *testing.T, authority *identitytest.CA, address, file string) *identity.Client {
	t.Helper()
	client, err := identity.NewClient(identity.ClientOptions{
		ID:             authority.ID("shop", "checkout"),
		ControlPlane:   address,
		ControlPlaneID: authority.ControlPlaneID(),
		Anchors:        []*x509.Certificate{authority.Root},
		TokenFile:      file,
	})
	require.NoError(t, err)
	return client
}

func run(t *testing.T, client *identity.Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

func await(t *testing.T, client *identity.Client) {
	t.Helper()
	select {
	case <-client.Ready():
	case <-time.After(10 * time.Second):
		require.Fail(t, "no certificate in 10 s")
	}
}

func isReady(client *identity.Client) bool {
	select {
	case <-client.Ready():
		return true
	default:
		return false
	}
}

func tokenFile(t *testing.T, token string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token), 0o600))
	return file
}

// TestClientRefusesBadAnswers: what would leave the proxy unable to talk to anyone is not put in
// force.
func TestClientRefusesBadAnswers(t *testing.T) {
	stranger := identitytest.New(t)
	for name, spoil := range map[string]func(*identitytest.CA, *meshpb.CertifyResponse){
		"another key": func(ca *identitytest.CA, r *meshpb.CertifyResponse) {
			r.Certificates = ca.Source(t, "shop", "checkout").TLS.Certificate
		},
		"other anchors":    func(_ *identitytest.CA, r *meshpb.CertifyResponse) { r.TrustAnchors = [][]byte{stranger.Root.Raw} },
		"no anchors":       func(_ *identitytest.CA, r *meshpb.CertifyResponse) { r.TrustAnchors = nil },
		"no certificate":   func(_ *identitytest.CA, r *meshpb.CertifyResponse) { r.Certificates = nil },
		"root for a leaf":  func(ca *identitytest.CA, r *meshpb.CertifyResponse) { r.Certificates = [][]byte{ca.Root.Raw} },
		"not certificates": func(_ *identitytest.CA, r *meshpb.CertifyResponse) { r.Certificates = [][]byte{{1, 2, 3}} },
	} {
		t.Run(name, func(t *testing.T) {
			authority := identitytest.New(t)
			spoiled := make(chan struct{}, 100)
			authority.Spoil = func(r *meshpb.CertifyResponse) {
				spoil(authority, r)
				spoiled <- struct{}{}
			}
			address, _ := authority.ServeControlPlane(t, http.NewServeMux())
			client := newClient(t, authority, address, tokenFile(t, "shop/checkout"))
			run(t, client)
			<-spoiled
			<-spoiled // It has refused the first and asks again.
			require.False(t, isReady(client))
		})
	}
}
