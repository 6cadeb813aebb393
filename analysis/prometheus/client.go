// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

var errTooLarge = errors.New("the answer is larger than allowed")

// newClient makes a client that bounds the size of an answer and follows no redirect: the address was
// allowed, where it points to was not. The context of each request bounds its time.
func newClient(maximumBytes int64) *http.Client {
	transport := &http.Transport{
		DialContext:       (&net.Dialer{}).DialContext,
		IdleConnTimeout:   time.Minute,
		ForceAttemptHTTP2: true,
	}
	return &http.Client{
		Transport:     boundedTransport{transport, maximumBytes},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
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
