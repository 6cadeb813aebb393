// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/sluice-mesh/sluice/mesh/identity"
)

// Keys of the trust Secret, those of kubernetes.io/tls plus the anchors, as cert-manager writes
// them.
const (
	keyCertificate = "tls.crt"
	keyPrivate     = "tls.key"
	keyAnchors     = "ca.crt"
)

// authority is a signing certificate with its key and the anchors that proxies trust. It is
// immutable.
type authority struct {
	certificate *x509.Certificate
	signer      crypto.Signer
	// intermediates are sent after each leaf; empty when the signing certificate is an anchor.
	intermediates [][]byte
	anchors       []*x509.Certificate
	pool          *x509.CertPool
}

// newRoot returns the data of a trust Secret with a new self-signed root.
func newRoot(trustDomain string, now time.Time) (map[string][]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the root's key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	root := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "sluice root of " + trustDomain},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(10, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the root: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the root's key: %w", err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return map[string][]byte{
		keyCertificate: certificate,
		keyPrivate:     pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		keyAnchors:     certificate,
	}, nil
}

// parseAuthority reads a trust Secret and checks that what it would sign will be trusted.
func parseAuthority(data map[string][]byte, now time.Time) (*authority, error) {
	pair, err := tls.X509KeyPair(data[keyCertificate], data[keyPrivate])
	if err != nil {
		return nil, fmt.Errorf("%w: %s and %s: %w", ErrSecret, keyCertificate, keyPrivate, err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: %s cannot sign", ErrSecret, keyPrivate)
	}
	anchors, err := identity.ParseAnchors(data[keyAnchors])
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSecret, keyAnchors, err)
	}
	loaded := &authority{certificate: pair.Leaf, signer: signer, anchors: anchors, pool: x509.NewCertPool()}
	if !pair.Leaf.IsCA || pair.Leaf.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("%w: the certificate in %s may not sign others", ErrSecret, keyCertificate)
	}
	isAnchor := false
	for _, anchor := range anchors {
		loaded.pool.AddCert(anchor)
		isAnchor = isAnchor || bytes.Equal(anchor.Raw, pair.Leaf.Raw)
	}
	intermediates := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrSecret, keyCertificate, err)
		}
		intermediates.AddCert(certificate)
	}
	if !isAnchor {
		loaded.intermediates = pair.Certificate
	}
	_, err = pair.Leaf.Verify(x509.VerifyOptions{
		Roots: loaded.pool, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: verify %s by %s: %w", ErrSecret, keyCertificate, keyAnchors, err)
	}
	return loaded, nil
}

// newSerial returns a serial number of 128 random bits.
func newSerial() (*big.Int, error) {
	limit := new(big.Int).Lsh(big.NewInt(1), 128)
	serial, err := rand.Int(rand.Reader, limit)
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return serial, nil
}
