// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// relearnTime is for how long an endpoint is known to speak only HTTP/1.1: another may get its address.
const relearnTime = 10 * time.Minute

// noProtocol is the alert by which a server refuses all protocols that it was offered.
const noProtocol = 120

var errOnlyHTTP1 = errors.New("the endpoint speaks only HTTP/1.1")

// refusesProtocols says that a peer of the mesh speaks none of the protocols that it was offered.
func refusesProtocols(err error) bool {
	var remote *net.OpError
	return errors.As(err, &remote) && remote.Op == "remote error" && remote.Err.Error() == tls.AlertError(noProtocol).Error()
}

// greetedConn is a connection to somebody who may not speak HTTP/2, and was sent its preface. What comes
// first tells: a frame, or the answer of HTTP/1.1 to what is no request. Nothing else is taken for a
// sign: who closes without a word may just be starting.
type greetedConn struct {
	*upstreamConn
	// heard is closed when the first bytes have come; old says that they are HTTP/1.1.
	heard chan struct{}
	old   bool
	// silence is why nothing has come.
	silence error
	greeted bool
}

func newGreetedConn(conn *upstreamConn) *greetedConn {
	return &greetedConn{upstreamConn: conn, heard: make(chan struct{})}
}

// speaksHTTP2 says that it is clear that HTTP/2 is spoken.
func (c *greetedConn) speaksHTTP2() bool {
	select {
	case <-c.heard:
		return !c.old
	default:
		return false
	}
}

// Read reads. The first time it does so until it is clear what is spoken, which any buffer has room for.
func (c *greetedConn) Read(p []byte) (int, error) {
	n, err := c.upstreamConn.Read(p)
	if c.greeted {
		return n, err
	}
	const version = "HTTP/1."
	for err == nil && n < min(len(version), len(p)) && bytes.HasPrefix([]byte(version), p[:n]) {
		var more int
		more, err = c.upstreamConn.Read(p[n:])
		n += more
	}
	switch {
	case bytes.HasPrefix(p[:n], []byte(version)):
		c.old = true
		n, err = 0, errOnlyHTTP1
	case n == 0, err != nil:
		c.silence = err
		return n, err
	}
	c.greeted = true
	close(c.heard)
	return n, err
}
