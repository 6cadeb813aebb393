// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"time"
)

const (
	// leafLife is short because nothing is ever revoked, and long because a control plane that is
	// away for a night must not take the mesh with it.
	leafLife = 24 * time.Hour
	// backDate lets a certificate be good at once on a node whose clock is behind ours.
	backDate = 5 * time.Minute
)

// sign signs a template for the public key in it and returns the leaf followed by intermediates.
func (a *authority) sign(template *x509.Certificate, now time.Time) ([][]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	leaf := *template
	leaf.SerialNumber = serial
	leaf.NotBefore = now.Add(-backDate)
	leaf.NotAfter = now.Add(leafLife)
	// A leaf that outlives its signer would fail before its holder thinks of renewing it.
	if leaf.NotAfter.After(a.certificate.NotAfter) {
		leaf.NotAfter = a.certificate.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, &leaf, a.certificate, leaf.PublicKey, a.signer)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return append([][]byte{der}, a.intermediates...), nil
}

func (a *authority) anchorsDER() [][]byte {
	list := make([][]byte, 0, len(a.anchors))
	for _, anchor := range a.anchors {
		list = append(list, anchor.Raw)
	}
	return list
}
