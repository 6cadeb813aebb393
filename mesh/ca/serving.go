// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"github.com/sluice-mesh/sluice/mesh/identity"
)

// Serving is the certificate of one of the control plane's own servers, made in the process and
// replaced in time. It is an identity.CertificateSource.
type Serving struct {
	issuer   *Issuer
	template *x509.Certificate

	mu       sync.Mutex
	current  *tls.Certificate
	signedBy *authority
}

// Serving returns a certificate source for a server of the control plane: the SPIFFE ID of the
// service account that it runs under, for proxies, and DNS names, for the API server that calls its
// webhooks.
func (i *Issuer) Serving(namespace, serviceAccount string, dnsNames ...string) (*Serving, error) {
	id, err := identity.ForServiceAccount(i.options.TrustDomain, namespace, serviceAccount)
	if err != nil {
		return nil, err
	}
	own := template(id, nil)
	own.DNSNames = dnsNames
	return &Serving{issuer: i, template: own}, nil
}

// Certificate returns the certificate to present now. A new one costs a tenth of a millisecond, so
// it is made when it is asked for and needs no timer.
func (s *Serving) Certificate() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, signer := s.issuer.options.Now(), s.issuer.current.Load()
	if s.current != nil && s.signedBy == signer && now.Before(s.renewAt()) {
		return s.current, nil
	}
	fresh, err := s.make(signer, now)
	if err != nil {
		return nil, fmt.Errorf("make the control plane's certificate: %w", err)
	}
	s.current, s.signedBy = fresh, signer
	return fresh, nil
}

// GetCertificate is Certificate for a tls.Config.
func (s *Serving) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.Certificate()
}

func (s *Serving) renewAt() time.Time {
	life := s.current.Leaf.NotAfter.Sub(s.current.Leaf.NotBefore)
	return s.current.Leaf.NotBefore.Add(life * 7 / 10)
}

func (s *Serving) make(signer *authority, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	leaf := *s.template
	leaf.PublicKey = key.Public()
	chain, err := signer.sign(&leaf, now)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("parse what was signed: %w", err)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: parsed}, nil
}
