// SPDX-License-Identifier: Apache-2.0

// Package identitytest is a certificate authority in memory for tests: real keys, real
// certificates, a real Identity service. It is for tests only.
package identitytest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

// CA signs whatever a test asks for. It is an identity.BundleSource of its own root.
type CA struct {
	TrustDomain spiffeid.TrustDomain
	Root        *x509.Certificate
	// Life of the certificates that Certify signs, 24 h at first.
	Life time.Duration
	// Spoil changes the answers of Certify when it is set, before the CA serves.
	Spoil func(*meshpb.CertifyResponse)
	key   *ecdsa.PrivateKey
}

// New returns a CA of the trust domain cluster.local.
func New(t testing.TB) *CA {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber:          serial(t),
		Subject:               pkix.Name{CommonName: "test root"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	root, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &CA{
		TrustDomain: spiffeid.RequireTrustDomainFromString("cluster.local"),
		Root:        root,
		Life:        24 * time.Hour,
		key:         key,
	}
}

// ID returns the SPIFFE ID of a service account in the CA's trust domain.
func (c *CA) ID(namespace, serviceAccount string) spiffeid.ID {
	return spiffeid.RequireFromSegments(c.TrustDomain, "ns", namespace, "sa", serviceAccount)
}

// Bundle returns the CA's root.
func (c *CA) Bundle() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	pool.AddCert(c.Root)
	return pool, nil
}

// AnchorsPEM returns the CA's root as a proxy is given it.
func (c *CA) AnchorsPEM() string {
	return string(identity.EncodeAnchors([]*x509.Certificate{c.Root}))
}

// Source returns a source of one certificate of a service account.
func (c *CA) Source(t testing.TB, namespace, serviceAccount string) Source {
	t.Helper()
	return Source{TLS: c.Sign(t, Leaf(c.ID(namespace, serviceAccount)))}
}

// Leaf returns the template of a workload's certificate, for tests to spoil before Sign.
func Leaf(id spiffeid.ID) *x509.Certificate {
	return &x509.Certificate{
		URIs:        []*url.URL{id.URL()},
		NotBefore:   time.Now().Add(-5 * time.Minute),
		NotAfter:    time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
}

// Sign makes a key and signs a certificate for it.
func (c *CA) Sign(t testing.TB, template *x509.Certificate) *tls.Certificate {
	t.Helper()
	key := newKey(t)
	template.SerialNumber = serial(t)
	der, err := x509.CreateCertificate(rand.Reader, template, c.Root, key.Public(), c.key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Source is one certificate.
type Source struct{ TLS *tls.Certificate }

// Certificate returns the certificate.
func (s Source) Certificate() (*tls.Certificate, error) { return s.TLS, nil }

// Certify is the Identity service. The token is "namespace/serviceaccount"; the request must ask
// for that account's SPIFFE ID.
func (c *CA) Certify(_ context.Context, request *meshpb.CertifyRequest) (*meshpb.CertifyResponse, error) {
	namespace, account, ok := strings.Cut(request.GetToken(), "/")
	if !ok {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("token is not namespace/serviceaccount"))
	}
	csr, err := x509.ParseCertificateRequest(request.GetCertificateSigningRequest())
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	id := c.ID(namespace, account)
	if len(csr.URIs) != 1 || csr.URIs[0].String() != id.String() {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("request is for another identity"))
	}
	template := Leaf(id)
	template.NotAfter = template.NotBefore.Add(c.Life)
	if template.SerialNumber, err = rand.Int(rand.Reader, serialLimit()); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.Root, csr.PublicKey, c.key)
	if err != nil {
		return nil, err
	}
	response := &meshpb.CertifyResponse{Certificates: [][]byte{der}, TrustAnchors: [][]byte{c.Root.Raw}}
	if c.Spoil != nil {
		c.Spoil(response)
	}
	return response, nil
}

// Handler serves Certify.
func (c *CA) Handler() (string, http.Handler) { return meshpb.NewIdentityHandler(c) }

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	number, err := rand.Int(rand.Reader, serialLimit())
	require.NoError(t, err)
	return number
}

func serialLimit() *big.Int { return new(big.Int).Lsh(big.NewInt(1), 127) }
