// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// ClientConfig returns the TLS configuration of a client that talks to exactly one peer. With
// certificates nil the client shows none. The caller sets NextProtos.
func ClientConfig(certificates CertificateSource, bundles BundleSource, peer spiffeid.ID) *tls.Config {
	verifier := verifier{bundles: bundles, match: spiffeid.MatchID(peer), usage: x509.ExtKeyUsageServerAuth}
	config := &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The peer is verified by SPIFFE ID in VerifyConnection, which crypto/tls calls at every
		// handshake, resumed or not; host names mean nothing here.
		InsecureSkipVerify: true,
		VerifyConnection:   verifier.verify,
	}
	if certificates != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return certificates.Certificate()
		}
	}
	return config
}

// ServerConfig returns the TLS configuration of a server that accepts every workload of one trust
// domain and nobody else. The caller sets NextProtos.
func ServerConfig(certificates CertificateSource, bundles BundleSource, peers spiffeid.TrustDomain) *tls.Config {
	verifier := verifier{bundles: bundles, match: spiffeid.MatchMemberOf(peers), usage: x509.ExtKeyUsageClientAuth}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAnyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return certificates.Certificate()
		},
		VerifyConnection: verifier.verify,
		// Connections between proxies are pooled and live long: a ticket for each would cost more
		// than the handshakes that it saves.
		SessionTicketsDisabled: true,
	}
}

// BootstrapServerConfig is ServerConfig for the control plane, whose clients have no certificate
// until it has given them one: a client may show none, but what it shows must be good.
func BootstrapServerConfig(certificates CertificateSource, bundles BundleSource, peers spiffeid.TrustDomain) *tls.Config {
	config := ServerConfig(certificates, bundles, peers)
	config.ClientAuth = tls.RequestClientCert
	verifyShown := config.VerifyConnection
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return nil
		}
		return verifyShown(state)
	}
	return config
}

type verifier struct {
	bundles BundleSource
	match   spiffeid.Matcher
	usage   x509.ExtKeyUsage
}

func (v verifier) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return ErrNoPeerCertificate
	}
	roots, err := v.bundles.Bundle()
	if err != nil {
		return fmt.Errorf("read trust anchors: %w", err)
	}
	id, err := verifyChain(state.PeerCertificates, roots, v.usage)
	if err != nil {
		return err
	}
	if err := v.match(id); err != nil {
		return fmt.Errorf("%w: %w", ErrWrongPeer, err)
	}
	return nil
}

// verifyChain verifies a leaf and its intermediates as an X.509-SVID and returns whose it is.
func verifyChain(chain []*x509.Certificate, roots *x509.CertPool, usage x509.ExtKeyUsage) (spiffeid.ID, error) {
	leaf := chain[0]
	id, err := FromCertificate(leaf)
	if err != nil {
		return spiffeid.ID{}, err
	}
	// A signing certificate that passes for a workload could make workloads.
	if leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return spiffeid.ID{}, fmt.Errorf("%w: it may sign certificates", ErrNotWorkloadCertificate)
	}
	options := x509.VerifyOptions{
		Roots:         roots,
		Intermediates: poolOf(chain[1:]),
		KeyUsages:     []x509.ExtKeyUsage{usage},
	}
	if _, err := leaf.Verify(options); err != nil {
		return spiffeid.ID{}, fmt.Errorf("verify the certificate of %s: %w", id, err)
	}
	return id, nil
}
