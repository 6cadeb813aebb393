// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity"
)

const (
	// connectTime is how long a connect may take before another endpoint is tried.
	connectTime = time.Second
	// idleToPeer is shorter than what any proxy waits for the next request (idleClient), so that
	// the side that sends is the one that closes.
	idleToPeer = 5 * time.Second
	// idleToApp is shorter than what applications wait for the next request.
	idleToApp = time.Second
	// idlePerEndpoint caps unused connections to one endpoint.
	idlePerEndpoint = 256
)

// hop is where one attempt goes.
type hop struct {
	address string
	// identity that the peer must prove; empty for plaintext.
	identity string
	// local is set for the pod's own application.
	local bool
	// key is what the attempt is remembered by when it fails.
	key string
	// revision that the attempt is open on.
	revision revision
	labels   trafficLabels
	// release ends the claims on the endpoint.
	release func()
}

// name is for logs.
func (h *hop) name() string {
	if h == nil {
		return "none"
	}
	return h.address
}

// connectError is a connect or handshake that failed: nothing of the request was sent.
type connectError struct {
	address string
	err     error
}

func (e *connectError) Error() string { return fmt.Sprintf("connect to %s: %v", e.address, e.err) }
func (e *connectError) Unwrap() error { return e.err }

// timedOut says that nobody answered, as opposed to somebody who refused.
func (e *connectError) timedOut() bool {
	var timeout interface{ Timeout() bool }
	return errors.As(e.err, &timeout) && timeout.Timeout()
}

// upstreams holds the connections to applications and other proxies.
type upstreams struct {
	dial         func(ctx context.Context, address string) (net.Conn, error)
	certificates identity.CertificateSource
	bundles      identity.BundleSource
	metrics      *metrics

	// plain carries requests to applications whose method is safe, so that they may be sent again
	// when the application ends its idle connection at that moment; fresh makes a connection for
	// each of the others, which cannot meet that end.
	plain, fresh *http.Transport

	mutex sync.Mutex
	// meshed has one pool per identity, so that a connection is never used for an address whose
	// pod has been replaced by one of somebody else.
	meshed map[string]*http.Transport
}

func newUpstreams(options Options, metrics *metrics) *upstreams {
	u := &upstreams{
		dial:         options.Dial,
		certificates: options.Certificates,
		bundles:      options.Bundles,
		metrics:      metrics,
		meshed:       map[string]*http.Transport{},
	}
	u.plain = u.newTransport("", idleToApp)
	u.fresh = u.newTransport("", idleToApp)
	u.fresh.DisableKeepAlives = true
	return u
}

func (u *upstreams) newTransport(peer string, idle time.Duration) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return u.connect(ctx, hop{address: address, identity: peer, labels: labelsOf(ctx)}, mesh.ALPNHTTP1)
		},
		DisableCompression:    true,
		MaxIdleConnsPerHost:   idlePerEndpoint,
		IdleConnTimeout:       idle,
		ExpectContinueTimeout: time.Second,
		// What the application accepts is its own decision.
		MaxResponseHeaderBytes: 1 << 20,
		Protocols:              onlyHTTP1(),
	}
}

func onlyHTTP1() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return protocols
}

// transport returns the pool for a request to a hop.
func (u *upstreams) transport(to *hop, method string) *http.Transport {
	switch {
	case to.identity != "":
	case safeMethod(method):
		return u.plain
	default:
		return u.fresh
	}
	u.mutex.Lock()
	defer u.mutex.Unlock()
	pool, ok := u.meshed[to.identity]
	if !ok {
		pool = u.newTransport(to.identity, idleToPeer)
		u.meshed[to.identity] = pool
	}
	return pool
}

// connect opens a connection to a hop, with TLS when it has an identity.
func (u *upstreams) connect(ctx context.Context, to hop, protocol string) (net.Conn, error) {
	series := u.metrics.tcp(tcpLabels{trafficLabels: to.labels, peer: peerDestination})
	dialContext, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	raw, err := u.dial(dialContext, to.address)
	if err != nil {
		return nil, &connectError{to.address, err}
	}
	conn := &upstreamConn{Conn: raw, series: series, ended: make(chan struct{})}
	if to.identity != "" {
		conn.wire = &wireConn{Conn: raw}
		if conn.Conn, err = u.dialMesh(ctx, conn.wire, to.identity, protocol); err != nil {
			_ = raw.Close() // The handshake's error is the one that tells.
			return nil, &connectError{to.address, err}
		}
	}
	series.open()
	return conn, nil
}

func (u *upstreams) closeIdle() {
	u.fresh.CloseIdleConnections()
	u.plain.CloseIdleConnections()
	u.mutex.Lock()
	defer u.mutex.Unlock()
	for _, pool := range u.meshed {
		pool.CloseIdleConnections()
	}
}

// endTime is how long a failed write waits for how the connection ended.
const endTime = 100 * time.Millisecond

// upstreamConn is a connection that knows how it ended, which decides whether a request that was not
// answered may be sent again.
type upstreamConn struct {
	net.Conn
	// wire is what lies under TLS; nil without TLS.
	wire   *wireConn
	series *tcpSeries
	closed sync.Once

	bytesRead    atomic.Uint64
	bytesWritten atomic.Uint64
	// ended is closed when the peer has ended its side; endedCleanly says that another proxy did so
	// in good order.
	ended        chan struct{}
	endOnce      sync.Once
	endedCleanly atomic.Bool
}

func (c *upstreamConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytesRead.Add(uint64(n))
	c.series.read(n)
	if err != nil {
		c.endOnce.Do(func() {
			// crypto/tls gives the same EOF for a close_notify and for a connection that just ends;
			// only for the first it has not seen the wire's end.
			c.endedCleanly.Store(errors.Is(err, io.EOF) && c.wire != nil && !c.wire.ended.Load())
			close(c.ended)
		})
	}
	return n, err
}

func (c *upstreamConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.bytesWritten.Add(uint64(n))
	c.series.wrote(n)
	if err != nil {
		// The transport closes the connection at once, and with it goes what the peer said last.
		timer := time.NewTimer(endTime)
		defer timer.Stop()
		select {
		case <-c.ended:
		case <-timer.C:
		}
	}
	return n, err
}

func (c *upstreamConn) Close() error {
	c.closed.Do(c.series.close)
	return c.Conn.Close()
}

// CloseWrite says that nothing more will be written.
func (c *upstreamConn) CloseWrite() error { return closeWrite(c.Conn) }

// wireConn is a connection under TLS that knows whether it has ended.
type wireConn struct {
	net.Conn
	ended atomic.Bool
}

func (c *wireConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.ended.Store(true)
	}
	return n, err
}
