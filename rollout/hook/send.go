// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Headers of every request.
const (
	// HeaderSignature is "t=<unix seconds>,v1=<hexadecimal HMAC-SHA256 of '<t>.<body>'>".
	HeaderSignature = "sluice-signature"
	// HeaderIdempotency is the same for each attempt at the same request.
	HeaderIdempotency = "idempotency-key"
)

// maxAnswer is how much of a response is read; what it says is never looked at.
const maxAnswer = 64 << 10

// Request is what is sent: a POST of JSON.
type Request struct {
	URL  string
	Body []byte
	// Key of idempotency.
	Key string
	// HMAC signs the body when it is not empty; CA, in PEM, is trusted instead of the system's.
	HMAC, CA []byte
	Timeout  time.Duration
}

// Sender sends requests to addresses that the rules allow. It follows no redirect and uses no proxy.
type Sender struct {
	Rules Rules
	Now   func() time.Time
}

// Send returns the status of the response. A *RefusedError says that nothing was sent.
func (s *Sender) Send(ctx context.Context, request Request) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, request.Timeout)
	defer cancel()
	client, err := s.client(request)
	if err != nil {
		return 0, err
	}
	defer client.CloseIdleConnections()
	made, err := s.make(ctx, request)
	if err != nil {
		return 0, err
	}
	response, err := client.Do(made)
	if err != nil {
		return 0, bare(err)
	}
	defer func() { _ = response.Body.Close() }()
	// Read so that the server sees its answer taken; how it ends does not matter.
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer))
	return response.StatusCode, nil
}

func (s *Sender) make(ctx context.Context, request Request) (*http.Request, error) {
	parsed, err := url.Parse(request.URL)
	if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.User != nil {
		return nil, &RefusedError{Why: "the address must be http:// or https:// with a host and without a user"}
	}
	made, err := http.NewRequestWithContext(ctx, http.MethodPost, request.URL, bytes.NewReader(request.Body))
	if err != nil {
		return nil, &RefusedError{Why: "the address cannot be used"}
	}
	made.Header.Set("content-type", "application/json")
	made.Header.Set("user-agent", "sluice-controller")
	made.Header.Set(HeaderIdempotency, request.Key)
	if len(request.HMAC) > 0 {
		made.Header.Set(HeaderSignature, Signature(request.HMAC, request.Body, s.Now()))
	}
	return made, nil
}

// Signature signs a body at a time.
func Signature(key, body []byte, at time.Time) string {
	seconds := at.Unix()
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%d.", seconds)
	_, _ = mac.Write(body)
	return fmt.Sprintf("t=%d,v1=%s", seconds, hex.EncodeToString(mac.Sum(nil)))
}

// client is made for one request: tenants share no connections.
func (s *Sender) client(request Request) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(request.CA) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(request.CA) {
			return nil, &RefusedError{Why: "ca.crt in the Secret holds no certificate in PEM"}
		}
	}
	dialer := &net.Dialer{Timeout: request.Timeout, Control: s.Rules.control}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSClientConfig: config, DisableKeepAlives: true,
			MaxResponseHeaderBytes: maxAnswer, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// bare says what went wrong without the address, which may hold a token, and without what the other
// side has sent: the text ends where tenants read, and must not show them what answers in the cluster.
func bare(err error) error {
	var (
		refused     *RefusedError
		wrapped     *url.Error
		resolving   *net.DNSError
		dialling    *net.OpError
		certificate *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &wrapped) && wrapped.Timeout():
		return errors.New("no answer in time")
	case errors.As(err, &resolving):
		return errors.New("the name of the host was not resolved")
	case errors.As(err, &certificate):
		return certificate
	case errors.As(err, &dialling) && dialling.Op == "dial":
		return dialling
	}
	return errors.New("the connection ended without an answer in HTTP")
}
