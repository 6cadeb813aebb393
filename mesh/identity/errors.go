// SPDX-License-Identifier: Apache-2.0

package identity

import "errors"

var (
	// ErrNoCertificate says that the control plane has not given a certificate yet.
	ErrNoCertificate = errors.New("no certificate yet")
	// ErrNoPeerCertificate says that the peer has shown no certificate.
	ErrNoPeerCertificate = errors.New("peer has shown no certificate")
	// ErrNotWorkloadCertificate says that a certificate is not one of a workload.
	ErrNotWorkloadCertificate = errors.New("not a workload certificate")
	// ErrNotServiceAccount says that a SPIFFE ID is not that of a Kubernetes service account.
	ErrNotServiceAccount = errors.New("SPIFFE ID is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<name>")
	// ErrWrongPeer says that the peer is somebody else than expected.
	ErrWrongPeer = errors.New("wrong peer")
	// ErrNoAnchors says that text holds no trust anchor.
	ErrNoAnchors = errors.New("no trust anchor found")
	// ErrBadAnswer says that the control plane answered with a certificate that was not asked for.
	ErrBadAnswer = errors.New("control plane answered with a wrong certificate")
)
