// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/x509"
	"net/url"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"
)

func TestForServiceAccount(t *testing.T) {
	domain := spiffeid.RequireTrustDomainFromString("cluster.local")
	id, err := ForServiceAccount(domain, "shop", "checkout")
	require.NoError(t, err)
	require.Equal(t, "spiffe://cluster.local/ns/shop/sa/checkout", id.String())

	namespace, name, err := ServiceAccount(id)
	require.NoError(t, err)
	require.Equal(t, []string{"shop", "checkout"}, []string{namespace, name})

	for _, wrong := range [][2]string{{"", "checkout"}, {"shop", ""}, {"shop/x", "checkout"}, {"shop", ".."}, {"shop", "a b"}} {
		_, err := ForServiceAccount(domain, wrong[0], wrong[1])
		require.Error(t, err, "%q", wrong)
	}
}

func TestServiceAccountOfOtherIDs(t *testing.T) {
	for _, id := range []string{
		"spiffe://cluster.local",
		"spiffe://cluster.local/ns/shop",
		"spiffe://cluster.local/sa/checkout/ns/shop",
		"spiffe://cluster.local/ns/shop/sa/checkout/more",
		"spiffe://cluster.local/a/ns/shop/sa",
	} {
		_, _, err := ServiceAccount(spiffeid.RequireFromString(id))
		require.ErrorIs(t, err, ErrNotServiceAccount, id)
	}
}

func TestFromCertificate(t *testing.T) {
	parse := func(text string) *url.URL {
		uri, err := url.Parse(text)
		require.NoError(t, err)
		return uri
	}
	one := parse("spiffe://cluster.local/ns/shop/sa/checkout")
	id, err := FromCertificate(&x509.Certificate{URIs: []*url.URL{one}})
	require.NoError(t, err)
	require.Equal(t, one.String(), id.String())

	for name, uris := range map[string][]*url.URL{
		"none":         nil,
		"two":          {one, one},
		"other scheme": {parse("https://cluster.local/ns/shop/sa/checkout")},
		"dot segments": {parse("spiffe://cluster.local/ns/shop/../sa/checkout")},
		"query":        {parse("spiffe://cluster.local/ns/shop/sa/checkout?x=1")},
	} {
		_, err := FromCertificate(&x509.Certificate{URIs: uris})
		require.ErrorIs(t, err, ErrNotWorkloadCertificate, name)
	}
}

func TestPeerIDWithoutCertificate(t *testing.T) {
	_, err := PeerID(nil)
	require.ErrorIs(t, err, ErrNoPeerCertificate)
}
