// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

// certifyTimeout bounds one attempt: a control plane that does not answer in this time is away.
const certifyTimeout = 10 * time.Second

// answer is what one request brought, verified.
type answer struct {
	certificate *tls.Certificate
	anchors     []*x509.Certificate
}

// certify makes a new key and has it certified.
func (c *Client) certify(ctx context.Context) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, certifyTimeout)
	defer cancel()
	token, err := os.ReadFile(c.options.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the service-account token: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	request, err := NewRequest(c.options.ID, key)
	if err != nil {
		return nil, err
	}
	client := c.httpClient()
	// The next request is hours away: no connection is worth its memory until then.
	defer client.CloseIdleConnections()
	identity := meshpb.NewIdentityClient(client, "https://"+c.options.ControlPlane, connect.WithGRPC())
	response, err := identity.Certify(ctx, &meshpb.CertifyRequest{
		Token:                     strings.TrimSpace(string(token)),
		CertificateSigningRequest: request,
	})
	if err != nil {
		return nil, fmt.Errorf("ask %s for a certificate: %w", c.options.ControlPlane, err)
	}
	return readAnswer(response, c.options.ID, key)
}

// NewRequest returns a certificate signing request (PKCS #10, DER) that asks for one SPIFFE ID and
// nothing else.
func NewRequest(id spiffeid.ID, key *ecdsa.PrivateKey) ([]byte, error) {
	template := &x509.CertificateRequest{URIs: []*url.URL{id.URL()}}
	request, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request for %s: %w", id, err)
	}
	return request, nil
}

func (c *Client) httpClient() *http.Client {
	config := ClientConfig(nil, c, c.options.ControlPlaneID)
	config.NextProtos = []string{"h2"}
	return &http.Client{Transport: &http.Transport{
		// Without a Proxy function: an HTTP_PROXY meant for the application must not lead the
		// token elsewhere.
		DialContext:       (&net.Dialer{Timeout: certifyTimeout}).DialContext,
		TLSClientConfig:   config,
		ForceAttemptHTTP2: true,
	}}
}

// readAnswer takes an answer only if it certifies what was asked for and holds under the anchors
// that came with it: one that does not would leave the proxy unable to talk to anyone, and the
// certificate in force is better.
func readAnswer(response *meshpb.CertifyResponse, id spiffeid.ID, key *ecdsa.PrivateKey) (*answer, error) {
	chain, err := parseAll(response.GetCertificates())
	if err != nil {
		return nil, fmt.Errorf("%w: certificates: %w", ErrBadAnswer, err)
	}
	anchors, err := parseAll(response.GetTrustAnchors())
	if err != nil {
		return nil, fmt.Errorf("%w: trust anchors: %w", ErrBadAnswer, err)
	}
	if len(chain) == 0 || len(anchors) == 0 {
		return nil, fmt.Errorf("%w: %d certificates and %d trust anchors", ErrBadAnswer, len(chain), len(anchors))
	}
	if !key.PublicKey.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("%w: it certifies another key", ErrBadAnswer)
	}
	certified, err := verifyChain(chain, poolOf(anchors), x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadAnswer, err)
	}
	if certified != id {
		return nil, fmt.Errorf("%w: it certifies %s", ErrBadAnswer, certified)
	}
	return &answer{
		certificate: &tls.Certificate{Certificate: response.GetCertificates(), PrivateKey: key, Leaf: chain[0]},
		anchors:     anchors,
	}, nil
}

func parseAll(list [][]byte) ([]*x509.Certificate, error) {
	certificates := make([]*x509.Certificate, 0, len(list))
	for _, der := range list {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, certificate)
	}
	return certificates, nil
}
