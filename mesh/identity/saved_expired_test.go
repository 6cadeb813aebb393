// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"
)

// TestExpiredCertificatesAreNotUsedAgain: what was kept counts only while it is valid.
func TestExpiredCertificatesAreNotUsedAgain(t *testing.T) {
	id := spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/checkout")
	for name, test := range map[string]struct {
		notAfter time.Time
		valid    bool
	}{
		"valid":   {time.Now().Add(time.Hour), true},
		"expired": {time.Now().Add(-time.Minute), false},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			require.NoError(t, err)
			root := &x509.Certificate{
				SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
				NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(2 * time.Hour),
			}
			leaf := &x509.Certificate{
				SerialNumber: big.NewInt(2), URIs: []*url.URL{id.URL()}, KeyUsage: x509.KeyUsageDigitalSignature,
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
				NotBefore:   time.Now().Add(-time.Hour), NotAfter: test.notAfter,
			}
			sign := func(template *x509.Certificate) *x509.Certificate {
				der, err := x509.CreateCertificate(rand.Reader, template, root, &key.PublicKey, key)
				require.NoError(t, err)
				signed, err := x509.ParseCertificate(der)
				require.NoError(t, err)
				return signed
			}
			anchor, certified := sign(root), sign(leaf)
			content, err := encodeAnswer(&answer{
				certificate: &tls.Certificate{Certificate: [][]byte{certified.Raw}, PrivateKey: key, Leaf: certified},
				anchors:     []*x509.Certificate{anchor},
			})
			require.NoError(t, err)
			kept, err := decodeAnswer(content, id)
			if !test.valid {
				require.ErrorIs(t, err, ErrBadAnswer)
				return
			}
			require.NoError(t, err)
			require.Equal(t, certified.Raw, kept.certificate.Leaf.Raw)
		})
	}
}
