// SPDX-License-Identifier: Apache-2.0

// Package ca is the mesh's certificate authority: it reviews the service-account token of who asks,
// decides whether the request is for exactly that service account's SPIFFE ID, and signs.
//
// It must not know proxies, routes or workloads, and it must not sign what Evaluate has not passed.
package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/url"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/sluice-mesh/sluice/mesh/identity"
)

// Claims are what a reviewed token proves.
type Claims struct {
	Namespace      string
	ServiceAccount string
	// Pod is the pod that the token is bound to, for the log; it may be empty.
	Pod string
}

// maxRequestBytes is far more than any key and name that are allowed need.
const maxRequestBytes = 4096

// tagURI is the tag of a URI in a subject alternative name, RFC 5280 §4.2.1.6.
const tagURI = 6

// Evaluate decides whether a certificate request (PKCS #10, DER) may be signed for who has proved
// the claims. It returns the template of the certificate, without serial number and validity, or
// an error that is ErrRefused. Nothing of the request but its key gets into the template; what the
// request says is compared, and everything that is not expected is refused, so that no caller can
// come to rely on a name that we dropped.
func Evaluate(trustDomain spiffeid.TrustDomain, claims Claims, request []byte) (*x509.Certificate, error) {
	id, err := identity.ForServiceAccount(trustDomain, claims.Namespace, claims.ServiceAccount)
	if err != nil {
		return nil, refuse("%w", err)
	}
	if len(request) > maxRequestBytes {
		return nil, refuse("the request has %d bytes, more than %d", len(request), maxRequestBytes)
	}
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, refuse("parse the request: %w", err)
	}
	// Without this check somebody could have another's public key certified.
	if err := csr.CheckSignature(); err != nil {
		return nil, refuse("check the request's signature: %w", err)
	}
	if err := evaluateKey(csr); err != nil {
		return nil, err
	}
	if len(csr.Subject.Names) > 0 {
		return nil, refuse("the request has a subject, %q; leave it empty", csr.Subject.String())
	}
	if err := evaluateExtensions(csr, id); err != nil {
		return nil, err
	}
	return template(id, csr.PublicKey), nil
}

// template returns what every workload certificate has in common.
func template(id spiffeid.ID, publicKey any) *x509.Certificate {
	return &x509.Certificate{
		PublicKey:             publicKey,
		URIs:                  []*url.URL{id.URL()},
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
}

func evaluateKey(csr *x509.CertificateRequest) error {
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return refuse("the key is %s; make an ECDSA key on P-256, P-384 or P-521", csr.PublicKeyAlgorithm)
	}
	switch key.Curve {
	case elliptic.P256(), elliptic.P384(), elliptic.P521():
		return nil
	default:
		return refuse("the key is on %s; make one on P-256, P-384 or P-521", key.Params().Name)
	}
}

// evaluateExtensions allows one extension, the alternative names, with one name in it.
func evaluateExtensions(csr *x509.CertificateRequest, id spiffeid.ID) error {
	oidNames := asn1.ObjectIdentifier{2, 5, 29, 17}
	var names []byte
	for _, extension := range csr.Extensions {
		if !extension.Id.Equal(oidNames) {
			return refuse("the request has the extension %s; only alternative names are allowed", extension.Id)
		}
		if names != nil {
			return refuse("the request has its alternative names twice")
		}
		names = extension.Value
	}
	if names == nil {
		return refuse("the request has no alternative names; it needs the URI %s", id)
	}
	return evaluateNames(names, id)
}

// evaluateNames reads the names by hand: crypto/x509 skips kinds of names that it does not know and
// re-escapes URIs, and here each byte counts.
func evaluateNames(names []byte, id spiffeid.ID) error {
	var list asn1.RawValue
	rest, err := asn1.Unmarshal(names, &list)
	if err != nil {
		return refuse("parse the alternative names: %w", err)
	}
	if len(rest) > 0 || !list.IsCompound || list.Tag != asn1.TagSequence || list.Class != asn1.ClassUniversal {
		return refuse("the alternative names are not one sequence")
	}
	var name asn1.RawValue
	rest, err = asn1.Unmarshal(list.Bytes, &name)
	if err != nil {
		return refuse("parse the alternative names: %w", err)
	}
	if len(rest) > 0 {
		return refuse("the request has several alternative names; only the URI %s is allowed", id)
	}
	if name.Class != asn1.ClassContextSpecific || name.Tag != tagURI || name.IsCompound {
		return refuse("the alternative name is not a URI; only the URI %s is allowed", id)
	}
	if string(name.Bytes) != id.String() {
		return refuse("the request is for %q; the token proves %s", name.Bytes, id)
	}
	return nil
}

func refuse(format string, arguments ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, arguments...))
}
