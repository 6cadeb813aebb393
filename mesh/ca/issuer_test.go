// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sluice-mesh/sluice/mesh/identity"
)

var testNow = time.Now().Truncate(time.Second)

func TestReplicasThatStartTogetherAgree(t *testing.T) {
	cluster := fake.NewClientBuilder().Build()
	issuers := make([]*Issuer, 8)
	var group errgroup.Group
	for at := range issuers {
		group.Go(func() (err error) {
			issuers[at], err = NewIssuer(t.Context(), issuerOptions(cluster))
			return err
		})
	}
	require.NoError(t, group.Wait())
	for _, issuer := range issuers {
		require.Equal(t, string(issuers[0].Anchors()), string(issuer.Anchors()))
	}
	require.Equal(t, testNow.AddDate(10, 0, 0).UTC(), issuers[0].NotAfter())

	again, err := NewIssuer(t.Context(), issuerOptions(cluster))
	require.NoError(t, err)
	require.Equal(t, issuers[0].Anchors(), again.Anchors())
}

func TestSignedLeaf(t *testing.T) {
	issuer := newTestIssuer(t)
	key := ecdsaKey(t, elliptic.P256())
	template, err := Evaluate(testDomain, testClaims, request(t, key, withNames(uriName(ownURI))))
	require.NoError(t, err)
	chain, err := issuer.current.Load().sign(template, testNow)
	require.NoError(t, err)
	require.Len(t, chain, 1)
	leaf, err := x509.ParseCertificate(chain[0])
	require.NoError(t, err)

	id, err := identity.FromCertificate(leaf)
	require.NoError(t, err)
	require.Equal(t, ownURI, id.String())
	require.Equal(t, testNow.Add(-5*time.Minute).UTC(), leaf.NotBefore)
	require.Equal(t, testNow.Add(24*time.Hour).UTC(), leaf.NotAfter)
	require.Greater(t, leaf.SerialNumber.BitLen(), 64)
	require.False(t, leaf.IsCA)
	pool, err := issuer.Bundle()
	require.NoError(t, err)
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		_, err = leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{usage}})
		require.NoError(t, err)
	}
}

func TestIntermediateFromElsewhere(t *testing.T) {
	rootKey, signerKey := ecdsaKey(t, elliptic.P256()), ecdsaKey(t, elliptic.P256())
	root := signed(t, authorityTemplate("root", testNow.Add(time.Hour)), nil, rootKey, rootKey)
	signer := signed(t, authorityTemplate("signer", testNow.Add(time.Hour)), root, signerKey, rootKey)
	loaded, err := parseAuthority(secretData(t, signer, signerKey, root), testNow)
	require.NoError(t, err)

	chain, err := loaded.sign(template(spiffeIDOf(t), signerKey.Public()), testNow)
	require.NoError(t, err)
	require.Len(t, chain, 2, "the intermediate goes with the leaf")
	leaf, err := x509.ParseCertificate(chain[0])
	require.NoError(t, err)
	require.Equal(t, signer.NotAfter, leaf.NotAfter, "no leaf outlives its signer")
}

func TestParseAuthorityRefuses(t *testing.T) {
	key, otherKey := ecdsaKey(t, elliptic.P256()), ecdsaKey(t, elliptic.P256())
	root := signed(t, authorityTemplate("root", testNow.Add(time.Hour)), nil, key, key)
	other := signed(t, authorityTemplate("other", testNow.Add(time.Hour)), nil, otherKey, otherKey)
	expired := signed(t, authorityTemplate("expired", testNow.Add(-time.Minute)), nil, key, key)
	leafTemplate := authorityTemplate("leaf", testNow.Add(time.Hour))
	leafTemplate.IsCA, leafTemplate.KeyUsage = false, x509.KeyUsageDigitalSignature
	leaf := signed(t, leafTemplate, nil, key, key)

	for want, data := range map[string]map[string][]byte{
		"tls.crt and tls.key":              {},
		"private key does not match":       secretData(t, root, otherKey, root),
		"ca.crt: no trust anchor":          {keyCertificate: secretData(t, root, key, root)[keyCertificate], keyPrivate: secretData(t, root, key, root)[keyPrivate]},
		"may not sign others":              secretData(t, leaf, key, leaf),
		"verify tls.crt by ca.crt: x509: ": secretData(t, root, key, other),
		"expired":                          secretData(t, expired, key, expired),
	} {
		_, err := parseAuthority(data, testNow)
		require.ErrorIs(t, err, ErrSecret, want)
		require.ErrorContains(t, err, want)
	}
}

func TestReloadTakesOverAndKeeps(t *testing.T) {
	cluster := fake.NewClientBuilder().Build()
	issuer, err := NewIssuer(t.Context(), issuerOptions(cluster))
	require.NoError(t, err)
	serving, err := issuer.Serving("sluice-system", "sluice-mesh", "sluice-mesh.sluice-system.svc")
	require.NoError(t, err)
	first, err := serving.Certificate()
	require.NoError(t, err)
	before := issuer.current.Load()
	require.NoError(t, issuer.reload(t.Context()))
	require.Same(t, before, issuer.current.Load(), "nothing changed")

	var secret corev1.Secret
	require.NoError(t, cluster.Get(t.Context(), client.ObjectKey{Namespace: "sluice-system", Name: SecretName}, &secret))
	secret.Data[keyAnchors] = []byte("spoiled")
	require.NoError(t, cluster.Update(t.Context(), &secret))
	require.ErrorIs(t, issuer.reload(t.Context()), ErrSecret)
	require.Same(t, before, issuer.current.Load(), "what cannot be used does not replace what can")

	secret.Data, err = newRoot("cluster.local", testNow)
	require.NoError(t, err)
	require.NoError(t, cluster.Update(t.Context(), &secret))
	require.NoError(t, issuer.reload(t.Context()))
	require.NotSame(t, before, issuer.current.Load())
	second, err := serving.Certificate()
	require.NoError(t, err)
	require.NotEqual(t, first.Certificate, second.Certificate, "the server's own certificate follows")
}

func TestServingCertificateIsRenewed(t *testing.T) {
	now := testNow
	options := issuerOptions(fake.NewClientBuilder().Build())
	options.Now = func() time.Time { return now }
	issuer, err := NewIssuer(t.Context(), options)
	require.NoError(t, err)
	serving, err := issuer.Serving("sluice-system", "sluice-mesh", "sluice-mesh.sluice-system.svc", "sluice-mesh.sluice-system.svc.cluster.local")
	require.NoError(t, err)
	first, err := serving.Certificate()
	require.NoError(t, err)
	require.Equal(t, "spiffe://cluster.local/ns/sluice-system/sa/sluice-mesh", first.Leaf.URIs[0].String())
	pool, err := issuer.Bundle()
	require.NoError(t, err)
	_, err = first.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "sluice-mesh.sluice-system.svc"})
	require.NoError(t, err)

	now = testNow.Add(16 * time.Hour)
	same, err := serving.GetCertificate(nil)
	require.NoError(t, err)
	require.Same(t, first, same)
	now = testNow.Add(17 * time.Hour)
	renewed, err := serving.GetCertificate(nil)
	require.NoError(t, err)
	require.NotSame(t, first, renewed)
}

func issuerOptions(cluster client.Client) IssuerOptions {
	return IssuerOptions{
		Client: cluster, Namespace: "sluice-system", TrustDomain: testDomain,
		Now: func() time.Time { return testNow },
	}
}

func newTestIssuer(t testing.TB) *Issuer {
	t.Helper()
	issuer, err := NewIssuer(t.Context(), issuerOptions(fake.NewClientBuilder().Build()))
	require.NoError(t, err)
	return issuer
}

func authorityTemplate(name string, notAfter time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: testNow.Add(-time.Hour), NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

// signed signs a template by its parent, by itself when that is nil.
func signed(t testing.TB, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	var err error
	template.SerialNumber, err = newSerial()
	require.NoError(t, err)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return certificate
}

func secretData(t testing.TB, certificate *x509.Certificate, key *ecdsa.PrivateKey, anchor *x509.Certificate) map[string][]byte {
	t.Helper()
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return map[string][]byte{
		keyCertificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}),
		keyPrivate:     pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		keyAnchors:     identity.EncodeAnchors([]*x509.Certificate{anchor}),
	}
}
