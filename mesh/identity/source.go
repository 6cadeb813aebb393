// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/tls"
	"crypto/x509"
)

// CertificateSource gives the certificate to present now. It is asked at each handshake, so that a
// renewed certificate needs no restart; it must not block.
type CertificateSource interface {
	Certificate() (*tls.Certificate, error)
}

// BundleSource gives the trust anchors by which peers are verified now. It is asked at each
// handshake and must not block.
type BundleSource interface {
	Bundle() (*x509.CertPool, error)
}
