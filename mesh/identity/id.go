// SPDX-License-Identifier: Apache-2.0

// Package identity says who is who in the mesh: SPIFFE IDs of service accounts, the certificates
// that prove them, the TLS configurations that demand them, and the client that keeps a workload's
// own certificate fresh.
//
// It runs inside every proxy, so it must not import anything of Kubernetes, and it must never
// decide who gets a certificate: that is mesh/ca.
package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// ForServiceAccount returns the SPIFFE ID of a service account:
// spiffe://<trust domain>/ns/<namespace>/sa/<name>.
func ForServiceAccount(trustDomain spiffeid.TrustDomain, namespace, name string) (spiffeid.ID, error) {
	id, err := spiffeid.FromSegments(trustDomain, "ns", namespace, "sa", name)
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("make the SPIFFE ID of service account %s/%s: %w", namespace, name, err)
	}
	return id, nil
}

// ServiceAccount returns the namespace and name of the service account that a SPIFFE ID stands for.
func ServiceAccount(id spiffeid.ID) (namespace, name string, err error) {
	segments := strings.Split(id.Path(), "/")
	if len(segments) != 5 || segments[1] != "ns" || segments[3] != "sa" {
		return "", "", fmt.Errorf("%w: %q", ErrNotServiceAccount, id)
	}
	return segments[2], segments[4], nil
}

// FromCertificate returns the SPIFFE ID in a leaf certificate. A certificate with several URI names
// has none: it would let its holder choose who to be.
func FromCertificate(leaf *x509.Certificate) (spiffeid.ID, error) {
	if len(leaf.URIs) != 1 {
		return spiffeid.ID{}, fmt.Errorf("%w: it has %d URI names", ErrNotWorkloadCertificate, len(leaf.URIs))
	}
	id, err := spiffeid.FromURI(leaf.URIs[0])
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("%w: %w", ErrNotWorkloadCertificate, err)
	}
	return id, nil
}

// PeerID returns the SPIFFE ID of the other side of a connection made with one of this package's
// TLS configurations, which have verified it.
func PeerID(state *tls.ConnectionState) (spiffeid.ID, error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return spiffeid.ID{}, ErrNoPeerCertificate
	}
	return FromCertificate(state.PeerCertificates[0])
}
