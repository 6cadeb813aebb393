// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"
)

var (
	testDomain = spiffeid.RequireTrustDomainFromString("cluster.local")
	testClaims = Claims{Namespace: "shop", ServiceAccount: "checkout"}
)

const ownURI = "spiffe://cluster.local/ns/shop/sa/checkout"

func TestEvaluateSignsForItself(t *testing.T) {
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		t.Run(name, func(t *testing.T) {
			key := ecdsaKey(t, curve)
			got, err := Evaluate(testDomain, testClaims, request(t, key, withNames(uriName(ownURI))))
			require.NoError(t, err)
			require.Equal(t, &x509.Certificate{
				PublicKey:             key.Public(),
				URIs:                  []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop/sa/checkout"}},
				KeyUsage:              x509.KeyUsageDigitalSignature,
				ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
				BasicConstraintsValid: true,
			}, got)
		})
	}
}

func TestEvaluateRefuses(t *testing.T) {
	key := ecdsaKey(t, elliptic.P256())
	good := request(t, key, withNames(uriName(ownURI)))
	spoil := func(at int) []byte {
		spoiled := append([]byte(nil), good...)
		spoiled[(at+len(spoiled))%len(spoiled)] ^= 0xff
		return spoiled
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	basicConstraints := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}
	keyUsage := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{0x03, 0x02, 0x01, 0x06}}

	cases := map[string]struct {
		claims  Claims
		request []byte
		want    string
	}{
		"another service account":  {request: request(t, key, withNames(uriName("spiffe://cluster.local/ns/shop/sa/cart"))), want: "the token proves"},
		"another namespace":        {request: request(t, key, withNames(uriName("spiffe://cluster.local/ns/bank/sa/checkout"))), want: "the token proves"},
		"another trust domain":     {request: request(t, key, withNames(uriName("spiffe://elsewhere/ns/shop/sa/checkout"))), want: "the token proves"},
		"the control plane":        {request: request(t, key, withNames(uriName("spiffe://cluster.local/ns/sluice-system/sa/sluice-mesh"))), want: "the token proves"},
		"other case":               {request: request(t, key, withNames(uriName("SPIFFE://cluster.local/ns/shop/sa/checkout"))), want: "the token proves"},
		"escaped":                  {request: request(t, key, withNames(uriName("spiffe://cluster.local/ns/shop/sa/%63heckout"))), want: "the token proves"},
		"trailing slash":           {request: request(t, key, withNames(uriName(ownURI+"/"))), want: "the token proves"},
		"query":                    {request: request(t, key, withNames(uriName(ownURI+"?a=b"))), want: "the token proves"},
		"zero byte":                {request: request(t, key, withNames(uriName(ownURI+"\x00.evil"))), want: ""},
		"user info":                {request: request(t, key, withNames(uriName("spiffe://me@cluster.local/ns/shop/sa/checkout"))), want: "the token proves"},
		"no names at all":          {request: request(t, key, &x509.CertificateRequest{}), want: "no alternative names"},
		"empty names":              {request: request(t, key, withNames()), want: "parse the alternative names"},
		"own URI twice":            {request: request(t, key, withNames(uriName(ownURI), uriName(ownURI))), want: "several alternative names"},
		"own and another URI":      {request: request(t, key, withNames(uriName(ownURI), uriName("spiffe://cluster.local/ns/shop/sa/cart"))), want: "several alternative names"},
		"DNS name beside":          {request: request(t, key, withNames(uriName(ownURI), name(2, "checkout.shop.svc"))), want: "several alternative names"},
		"DNS name alone":           {request: request(t, key, &x509.CertificateRequest{DNSNames: []string{"kubernetes.default.svc"}}), want: "not a URI"},
		"IP address":               {request: request(t, key, &x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}}), want: "not a URI"},
		"e-mail address":           {request: request(t, key, &x509.CertificateRequest{EmailAddresses: []string{"a@b.c"}}), want: "not a URI"},
		"otherName beside":         {request: request(t, key, withNames(uriName(ownURI), compound(0))), want: "several alternative names"},
		"otherName alone":          {request: request(t, key, withNames(compound(0))), want: "not a URI"},
		"directory name":           {request: request(t, key, withNames(compound(4))), want: "not a URI"},
		"registered ID beside":     {request: request(t, key, withNames(uriName(ownURI), name(8, "\x2a\x03\x04"))), want: "several alternative names"},
		"names with trailing data": {request: request(t, key, withRawNames(append(namesOf(uriName(ownURI)), 0x05, 0x00))), want: ""},
		"names not a sequence":     {request: request(t, key, withRawNames([]byte{0x31, 0x00})), want: ""},
		"wants to sign":            {request: request(t, key, withNames(uriName(ownURI)), basicConstraints), want: "extension 2.5.29.19"},
		"wants key usage":          {request: request(t, key, withNames(uriName(ownURI)), keyUsage), want: "extension 2.5.29.15"},
		"names twice":              {request: request(t, key, withNames(uriName(ownURI)), rawNames(namesOf(uriName(ownURI)))), want: ""},
		"subject": {request: request(t, key, &x509.CertificateRequest{
			Subject:         pkix.Name{CommonName: "system:masters"},
			ExtraExtensions: []pkix.Extension{rawNames(namesOf(uriName(ownURI)))},
		}), want: "has a subject"},
		"RSA":                     {request: request(t, rsaKey, withNames(uriName(ownURI))), want: "the key is RSA"},
		"Ed25519":                 {request: request(t, edKey, withNames(uriName(ownURI))), want: "the key is Ed25519"},
		"P-224":                   {request: request(t, ecdsaKey(t, elliptic.P224()), withNames(uriName(ownURI))), want: "the key is on P-224"},
		"signature spoiled":       {request: spoil(-1), want: "check the request's signature"},
		"key spoiled":             {request: spoil(40), want: ""},
		"nothing":                 {request: nil, want: "parse the request"},
		"two requests in one":     {request: append(append([]byte(nil), good...), good...), want: "parse the request"},
		"too long":                {request: make([]byte, maxRequestBytes+1), want: "more than 4096"},
		"claims with a path":      {claims: Claims{Namespace: "shop/sa/x", ServiceAccount: "checkout"}, request: good, want: "SPIFFE ID"},
		"claims without account":  {claims: Claims{Namespace: "shop"}, request: good, want: "SPIFFE ID"},
		"claims of somebody else": {claims: Claims{Namespace: "bank", ServiceAccount: "checkout"}, request: good, want: "the token proves"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if c.claims == (Claims{}) {
				c.claims = testClaims
			}
			got, err := Evaluate(testDomain, c.claims, c.request)
			require.ErrorIs(t, err, ErrRefused)
			require.ErrorContains(t, err, c.want)
			require.Nil(t, got)
		})
	}
}

// FuzzEvaluate asserts that whatever passes is for the claims and nothing else.
func FuzzEvaluate(f *testing.F) {
	key := ecdsaKey(f, elliptic.P256())
	f.Add(request(f, key, withNames(uriName(ownURI))), "shop", "checkout")
	f.Add(request(f, key, withNames(uriName(ownURI), name(2, "a.b"))), "shop", "checkout")
	f.Add(request(f, key, withNames(compound(0))), "shop", "checkout")
	f.Add([]byte{0x30, 0x00}, "", "..")
	f.Fuzz(func(t *testing.T, der []byte, namespace, account string) {
		template, err := Evaluate(testDomain, Claims{Namespace: namespace, ServiceAccount: account}, der)
		if err != nil {
			require.ErrorIs(t, err, ErrRefused)
			return
		}
		require.Len(t, template.URIs, 1)
		require.Equal(t, "spiffe://cluster.local/ns/"+namespace+"/sa/"+account, template.URIs[0].String())
		require.Empty(t, template.DNSNames)
		require.Empty(t, template.ExtraExtensions)
		require.False(t, template.IsCA)
	})
}

func ecdsaKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	return key
}

func request(t testing.TB, key crypto.Signer, template *x509.CertificateRequest, more ...pkix.Extension) []byte {
	t.Helper()
	template.ExtraExtensions = append(template.ExtraExtensions, more...)
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	require.NoError(t, err)
	return der
}

func withNames(names ...asn1.RawValue) *x509.CertificateRequest {
	return withRawNames(namesOf(names...))
}

func withRawNames(value []byte) *x509.CertificateRequest {
	return &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{rawNames(value)}}
}

func rawNames(value []byte) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}
}

func namesOf(names ...asn1.RawValue) []byte {
	value, err := asn1.Marshal(names)
	if err != nil {
		panic(err)
	}
	return value
}

func name(tag int, text string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(text)}
}

func uriName(uri string) asn1.RawValue { return name(tagURI, uri) }

// compound is a name that crypto/x509 skips without a word.
func compound(tag int) asn1.RawValue {
	return asn1.RawValue{
		Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true,
		Bytes: []byte{0x06, 0x03, 0x2a, 0x03, 0x04, 0xa0, 0x03, 0x0c, 0x01, 0x78},
	}
}
