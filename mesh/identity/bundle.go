// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// ParseAnchors reads trust anchors from PEM.
func ParseAnchors(text []byte) ([]*x509.Certificate, error) {
	var anchors []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		anchor, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse trust anchor %d: %w", len(anchors)+1, err)
		}
		anchors = append(anchors, anchor)
	}
	if len(anchors) == 0 {
		return nil, ErrNoAnchors
	}
	return anchors, nil
}

// EncodeAnchors writes trust anchors as PEM.
func EncodeAnchors(anchors []*x509.Certificate) []byte {
	var text bytes.Buffer
	for _, anchor := range anchors {
		text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: anchor.Raw}))
	}
	return text.Bytes()
}

func poolOf(anchors []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, anchor := range anchors {
		pool.AddCert(anchor)
	}
	return pool
}
