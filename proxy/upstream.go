// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/proxy/http1"
)

const (
	// connectTime is how long a connect may take before it is tried again, elsewhere if it can.
	connectTime = time.Second
	// idleToPeer is shorter than what any proxy waits for the next request (idleClient), so that
	// the side that sends is the one that closes.
	idleToPeer = 5 * time.Second
	// idleToApp is shorter than what applications wait for the next request.
	idleToApp = time.Second
	// idlePerEndpoint caps unused connections to one endpoint.
	idlePerEndpoint = 256
	// answerHeadMost is the most bytes of the head of an answer: what the application sends is its own
	// decision.
	answerHeadMost = 1 << 20
)

// hop is where one attempt goes.
type hop struct {
	address string
	// identity that the peer must prove; empty for plaintext.
	identity string
	// local is set for the pod's own application.
	local bool
	// http2 says that it was declared to speak HTTP/2, and that no other proxy is there to see to it.
	http2 bool
	// handoff says that it is a peer, to which callers are passed on that have been let in.
	handoff bool
	// key is what the attempt is remembered by when it fails.
	key string
	// revision that the attempt is open on.
	revision revision
	labels   trafficLabels
	// sent is when the request was, zero before.
	sent time.Time

	// The claims on the endpoint.
	load   *load
	counts *openCounts
	opened openCount
	// slot is the claim on the own application.
	slot slot
	// probes says that nobody else tries the endpoint until this attempt has ended.
	probes bool
	// conduct is that of an endpoint that may be left out by ejection; nil for another.
	conduct *conduct
}

// release ends the claims on the endpoint.
func (h *hop) release() {
	if h.load == nil {
		return // Once only.
	}
	if h.probes {
		h.load.probed.Store(false)
	}
	h.slot.leave()
	h.load.release()
	h.counts.done(h.revision, h.opened)
	h.load = nil
}

// answered notes the head of an answer, ended what came of the request.
func (h *hop) answered(now time.Time, failed bool) {
	if !h.local {
		h.load.met.answered(now, h.waited(now), failed)
	}
}

func (h *hop) ended(now time.Time, failed bool) {
	if !h.local {
		h.load.met.ended(now, failed)
	}
	if h.conduct != nil && !h.local {
		h.conduct.ended(failed)
	}
}

// lost notes that no answer has come, left that nobody has waited for one any longer. A connect that
// failed has not been waited for.
func (h *hop) lost(now time.Time) {
	h.left(now)
	h.ended(now, true)
}

func (h *hop) left(now time.Time) {
	if !h.local {
		h.load.met.waited(now, h.waited(now))
	}
}

func (h *hop) waited(now time.Time) time.Duration {
	if h.sent.IsZero() {
		return 0
	}
	return now.Sub(h.sent)
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
	// chance says that the same endpoint may well answer the next time.
	chance bool
}

func (e *connectError) Error() string { return fmt.Sprintf("connect to %s: %v", e.address, e.err) }
func (e *connectError) Unwrap() error { return e.err }

// timedOut says that nobody answered, as opposed to somebody who refused.
func (e *connectError) timedOut() bool { return timedOut(e.err) }

func timedOut(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// isChance says whether a connect or handshake failed in a way that says little of the endpoint. Where
// processors are short, the deadline comes before the connection that was made in time is seen, and
// the first bytes of a handshake come so late that the other proxy has taken them for something else
// and an application ends the connection or answers what is no TLS. A lost packet looks the same.
// Who refuses, or is somebody else, does so the next time as well.
func isChance(err error) bool {
	var noTLS tls.RecordHeaderError
	var resumed *resumeError
	return timedOut(err) || errors.As(err, &resumed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &noTLS)
}

// upstreams holds the connections to applications and other proxies.
type upstreams struct {
	dial         func(ctx context.Context, address string) (net.Conn, error)
	certificates identity.CertificateSource
	bundles      identity.BundleSource
	metrics      *metrics
	connectTime  time.Duration
	dialing      *dialing
	sessions     *sessions

	rules    http1.Rules
	messages http1.Buffers
	pool     *linkPool
	trunks   *trunkPool
}

func newUpstreams(options Options, metrics *metrics) *upstreams {
	return &upstreams{
		dial:         options.Dial,
		certificates: options.Certificates,
		bundles:      options.Bundles,
		metrics:      metrics,
		connectTime:  options.ConnectTime,
		dialing:      newDialing(),
		sessions:     newSessions(options.Now),
		rules:        http1.Rules{MaxHead: answerHeadMost, Audit: options.HTTP.Audit},
		pool:         newLinkPool(),
	}
}

// connect opens a connection to a hop, with TLS when it has an identity.
func (u *upstreams) connect(ctx context.Context, to hop, protocols ...string) (*upstreamConn, error) {
	leave, err := u.turn(ctx, &to)
	if err != nil {
		return nil, err
	}
	defer leave()
	return u.connectNow(ctx, to, protocols...)
}

// turn waits until a connection to a hop may be opened; leave says that it is.
func (u *upstreams) turn(ctx context.Context, to *hop) (leave func(), _ error) {
	ctx, cancel := context.WithTimeout(ctx, u.connectTime)
	defer cancel()
	leave, err := u.dialing.enter(ctx, to.address)
	if err != nil {
		return nil, &connectError{to.address, err, true}
	}
	return leave, nil
}

func (u *upstreams) connectNow(ctx context.Context, to hop, protocols ...string) (*upstreamConn, error) {
	series := u.metrics.tcp(tcpLabels{trafficLabels: to.labels, peer: peerDestination})
	dialContext, cancel := context.WithTimeout(ctx, u.connectTime)
	defer cancel()
	raw, err := u.dial(dialContext, to.address)
	if err != nil {
		return nil, &connectError{to.address, err, isChance(err)}
	}
	conn := &upstreamConn{Conn: raw, series: series}
	if to.identity != "" {
		conn.wire = &wireConn{Conn: raw}
		if conn.Conn, err = u.dialMesh(ctx, conn.wire, linkKey{to.address, to.identity}, protocols); err != nil {
			_ = raw.Close() // The handshake's error is the one that tells.
			return nil, &connectError{to.address, err, isChance(err)}
		}
	}
	series.open()
	if to.load != nil {
		to.load.trust()
	}
	return conn, nil
}

// upstreamConn is a connection that knows how it ended, which decides whether a request that was not
// answered may be sent again.
type upstreamConn struct {
	net.Conn
	// wire is what lies under TLS; nil without TLS.
	wire   *wireConn
	series *tcpSeries
	closed sync.Once

	// moved is told when bytes come or go; nil when nobody asks. It is set while nothing does.
	moved *atomic.Int64
	// bytesRead belongs to whoever reads.
	bytesRead    uint64
	bytesWritten atomic.Uint64
	// endedCleanly says that another proxy has ended the connection in good order.
	endedCleanly bool
}

func (c *upstreamConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.countRead(n)
	// crypto/tls gives the same EOF for a close_notify and for a connection that just ends; only for
	// the first it has not seen the wire's end.
	if err != nil && errors.Is(err, io.EOF) && c.wire != nil && !c.wire.ended.Load() {
		c.endedCleanly = true
	}
	return n, err
}

func (c *upstreamConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.countWritten(n)
	return n, err
}

func (c *upstreamConn) countRead(n int) {
	c.bytesRead += uint64(n)
	c.series.read(n)
	c.move(n)
}

func (c *upstreamConn) countWritten(n int) {
	c.bytesWritten.Add(uint64(n))
	c.series.wrote(n)
	c.move(n)
}

func (c *upstreamConn) move(n int) {
	if c.moved != nil && n > 0 {
		c.moved.Store(time.Now().UnixNano())
	}
}

func (c *upstreamConn) Close() error {
	c.closed.Do(c.series.close)
	return c.Conn.Close()
}

// protocol is what another proxy has agreed to speak; empty where nobody was asked.
func (c *upstreamConn) protocol() string {
	if secured, ok := c.Conn.(*tls.Conn); ok {
		return secured.ConnectionState().NegotiatedProtocol
	}
	return ""
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
	if err != nil && !isTimeout(err) {
		c.ended.Store(true)
	}
	return n, err
}
