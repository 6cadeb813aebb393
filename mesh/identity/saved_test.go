// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/mesh/identity/identitytest"
)

// TestClientBeginsWithWhatWasKept while the control plane is away, if it is still worth something.
func TestClientBeginsWithWhatWasKept(t *testing.T) {
	authority := identitytest.New(t)
	address, stop := authority.ServeControlPlane(t, http.NewServeMux())
	file := filepath.Join(t.TempDir(), "identity")
	options := identity.ClientOptions{
		ID: authority.ID("shop", "checkout"), ControlPlane: address, ControlPlaneID: authority.ControlPlaneID(),
		Anchors: []*x509.Certificate{authority.Root}, TokenFile: tokenFile(t, "shop/checkout"), StateFile: file,
	}
	begin := func(options identity.ClientOptions) *identity.Client {
		client, err := identity.NewClient(options)
		require.NoError(t, err)
		return client
	}
	first := begin(options)
	require.False(t, isReady(first), "nothing was kept yet")
	run(t, first)
	await(t, first)
	require.Eventually(t, func() bool { _, err := os.Stat(file); return err == nil }, time.Minute, time.Millisecond)
	stop()

	second := begin(options)
	require.True(t, isReady(second))
	was, err := first.Certificate()
	require.NoError(t, err)
	is, err := second.Certificate()
	require.NoError(t, err)
	require.Equal(t, was.Certificate, is.Certificate)
	require.Equal(t, was.PrivateKey, is.PrivateKey)
	bundle, err := second.Bundle()
	require.NoError(t, err)
	_, err = is.Leaf.Verify(x509.VerifyOptions{Roots: bundle, Intermediates: chainOf(is.Certificate[1:]), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	require.NoError(t, err)

	other := options
	other.ID = authority.ID("shop", "cart")
	require.False(t, isReady(begin(other)), "it is for another identity")
	require.NoError(t, os.Truncate(file, 100))
	require.False(t, isReady(begin(options)), "it is damaged")
}

func chainOf(list [][]byte) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, der := range list {
		certificate, err := x509.ParseCertificate(der)
		if err == nil {
			pool.AddCert(certificate)
		}
	}
	return pool
}
