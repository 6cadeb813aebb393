// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
)

// concurrent requests to one address at most; others wait for their turn within their time.
const concurrent = 8

var errTooLarge = errors.New("the answer is larger than allowed")

// connection speaks to one address with one Access.
type connection struct {
	access Access
	client *http.Client
	api    v1.API
}

// newConnection bounds the size of an answer and follows no redirect: the address was allowed, where it
// points to was not. No proxy of the environment is asked. The context of each request bounds its time.
func newConnection(address string, access Access, maximumBytes int64) (*connection, error) {
	if err := access.Validate(); err != nil {
		return nil, err
	}
	config, err := access.tls()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DialContext:       (&net.Dialer{}).DialContext,
		TLSClientConfig:   config,
		IdleConnTimeout:   time.Minute,
		ForceAttemptHTTP2: true,
	}
	client := &http.Client{Transport: access.authorize(boundedTransport{transport, maximumBytes}), CheckRedirect: noRedirect}
	speaking, err := api.NewClient(api.Config{Address: address, Client: client})
	if err != nil {
		return nil, fmt.Errorf("make a Prometheus client: %w", err)
	}
	return &connection{access: access, client: &http.Client{Transport: transport}, api: v1.NewAPI(speaking)}, nil
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// connected is the connection for the Access of now: secrets are renewed while a process runs.
func (s *Source) connected(ctx context.Context) (*connection, error) {
	access := Access{}
	if s.access != nil {
		var err error
		if access, err = s.access(ctx); err != nil {
			return nil, fmt.Errorf("read the credentials: %w", err)
		}
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.connection != nil && reflect.DeepEqual(s.connection.access, access) {
		return s.connection, nil
	}
	fresh, err := newConnection(s.address, access, s.maximumBytes)
	if err != nil {
		return nil, fmt.Errorf("use the credentials: %w", err)
	}
	if s.connection != nil {
		s.connection.client.CloseIdleConnections()
	}
	s.connection = fresh
	return fresh, nil
}

// turn waits for one of the requests that may be on their way at once.
func (s *Source) turn(ctx context.Context) (release func(), err error) {
	select {
	case s.turns <- struct{}{}:
		return func() { <-s.turns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// boundedTransport cuts off answers after a number of bytes, counted after decompression. Errors pass
// through as they are, as http.Client and io.Reader need them.
type boundedTransport struct {
	*http.Transport
	maximum int64
}

func (t boundedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.Transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = &boundedBody{ReadCloser: response.Body, left: t.maximum}
	return response, nil
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(buffer []byte) (int, error) {
	n, err := b.ReadCloser.Read(buffer)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}
