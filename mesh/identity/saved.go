// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"

	"google.golang.org/protobuf/proto"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/sluice-mesh/sluice/mesh/meshpb"
	"github.com/sluice-mesh/sluice/mesh/statefile"
)

// save keeps a certificate for the next start.
func (c *Client) save(fresh *answer) {
	if c.options.StateFile == "" {
		return
	}
	content, err := encodeAnswer(fresh)
	if err == nil {
		err = statefile.Write(c.options.StateFile, content)
	}
	if err != nil {
		c.options.Logger.Warn("cannot keep the certificate for the next start", "error", err)
	}
}

// load begins with the certificate that was last kept, if it is one that would be taken now. Run asks for
// another at once.
func (c *Client) load() {
	if c.options.StateFile == "" {
		return
	}
	content, err := statefile.Read(c.options.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var kept *answer
	if err == nil {
		kept, err = decodeAnswer(content, c.options.ID)
	}
	if err != nil {
		c.options.Logger.Warn("cannot use the certificate of the last run", "error", err)
		return
	}
	c.hold(kept)
	c.options.Logger.Info("using the certificate of the last run",
		"identity", c.options.ID.String(), "notAfter", kept.certificate.Leaf.NotAfter)
}

func encodeAnswer(kept *answer) ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(kept.certificate.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	response := &meshpb.CertifyResponse{Certificates: kept.certificate.Certificate}
	for _, anchor := range kept.anchors {
		response.TrustAnchors = append(response.TrustAnchors, anchor.Raw)
	}
	return proto.Marshal(&meshpb.KeptIdentity{Key: key, Answer: response})
}

// decodeAnswer takes what was kept as if it had just come: it must be for the ID, hold under its anchors
// and be valid now.
func decodeAnswer(content []byte, id spiffeid.ID) (*answer, error) {
	kept := &meshpb.KeptIdentity{}
	if err := proto.Unmarshal(content, kept); err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(kept.GetKey())
	if err != nil {
		return nil, fmt.Errorf("parse the key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the key is a %T", parsed)
	}
	return readAnswer(kept.GetAnswer(), id, key)
}
