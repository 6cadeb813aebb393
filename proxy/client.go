// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/proxy/http1"
)

const (
	// idleClient is how long a client's unused connection is kept: longer than what clients wait
	// before they drop it, so that they are the ones who do.
	idleClient = 15 * time.Minute
	// headTime is how long a request's head may take. Who sends one byte now and then would otherwise
	// hold a goroutine and a buffer for as long as it likes.
	headTime = 10 * time.Second
	// lingerTime and lingerMost bound what is read of a client that is still sending when it has been
	// answered. A connection that is closed with bytes unread is reset, and a client that meets that
	// while it sends may never see its answer.
	lingerTime = 500 * time.Millisecond
	lingerMost = 256 << 10
)

// States of a client's connection.
const (
	clientIdle   int32 = iota // Between requests.
	clientBusy                // A request has begun to come.
	clientClosed              // Closed between requests: what came then was not acted upon.
)

// client is a connection on which requests come, one after the other. One goroutine serves it.
type client struct {
	proxy  *Proxy
	conn   *servedConn
	begin  func(*exchange)
	parked *parking
	reader *http1.Reader
	writer *http1.Writer
	state  atomic.Int32
	// deadline is when reading ends if nothing comes.
	deadline time.Time
	// heading says that a head is being read, hurried that its time is limited.
	heading, hurried bool
	exchange         exchange
}

// serveRequests carries the requests of a connection until it ends. begin says where one may go.
func (p *Proxy) serveRequests(ctx context.Context, conn *servedConn, begin func(*exchange)) {
	c := p.newClient(conn, begin)
	defer c.exchange.stopTime()
	defer conn.Close() //nolint:errcheck // Whatever it had to say was said.
	if !p.clients.add(c) {
		c.linger() // The proxy is at its end. What the client has sent already was not acted upon.
		return
	}
	defer p.clients.remove(c)
	for c.await() {
		p.activity.add()
		again := c.serveOne(ctx)
		p.activity.done(!c.exchange.nowhere)
		if !again {
			break
		}
		c.state.Store(clientIdle)
	}
	c.reader.Release()
	c.writer.Discard()
}

func (p *Proxy) newClient(conn *servedConn, begin func(*exchange)) *client {
	c := &client{proxy: p, conn: conn, begin: begin}
	c.reader = http1.NewReader(c, &p.messages, p.options.HTTP)
	c.writer = http1.NewWriter(c, &p.messages)
	c.exchange.tick = c.exchange.lookAtTime
	return c
}

// await waits for the first byte of the next request, without a buffer if it can.
func (c *client) await() bool {
	if c.proxy.clients.isClosing() {
		return false
	}
	if c.reader.Buffered() == 0 {
		if now := time.Now(); c.deadline.Sub(now) < idleClient-time.Minute {
			c.deadline = now.Add(idleClient)
			_ = c.conn.SetReadDeadline(c.deadline) // Reading will tell.
		}
		if c.parked == nil {
			c.parked = newParking(c)
		}
		if c.awaitFirst() != nil {
			return false
		}
	}
	return c.state.CompareAndSwap(clientIdle, clientBusy)
}

func (c *client) awaitFirst() error {
	if c.parked == nil {
		c.reader.Release()
		return c.reader.Await()
	}
	c.reader.Forget()
	return c.parked.await()
}

// closeIdle ends the connection in good order if no request has begun to come.
func (c *client) closeIdle() {
	if c.state.CompareAndSwap(clientIdle, clientClosed) {
		_ = c.conn.Close() // Ends await.
	}
}

// serveOne carries one request and says whether another may follow.
func (c *client) serveOne(ctx context.Context) bool {
	x := &c.exchange
	x.reset(ctx, c)
	if err := c.readHead(&x.request); err != nil {
		c.refuse(err)
		return false
	}
	x.head = x.request.Asked().Head
	c.report(x.request.Findings())
	x.record = c.proxy.newRecord(c.conn, x.received)
	if c.proxy.tracer != nil {
		x.record = c.proxy.traceRecord(x.record, c.conn, x.received, x.request.Values(headerTraceParent))
	}
	if list := c.proxy.taps.list.Load(); list != nil {
		x.record = c.proxy.tapRecord(x.record, c.conn, x.received, *list, viewOf(&x.request, x.method(), x.targetText()))
	}
	x.record.describe(x)
	defer x.record.end()
	c.begin(x)
	return x.carry()
}

// readHead reads the head of a request, whose first byte has come.
func (c *client) readHead(request *http1.Request) error {
	c.heading = true
	err := c.reader.ReadRequest(request)
	c.heading = false
	if c.hurried {
		c.hurried = false
		_ = c.conn.SetReadDeadline(time.Time{}) // Reading will tell.
	}
	return err
}

// Read reads from the connection. Heads mostly come in one piece; the time of one that does not is
// limited.
func (c *client) Read(p []byte) (int, error) {
	if c.parked.reading() {
		n, err := c.parked.read(p)
		c.conn.series.read(n)
		return n, err
	}
	if c.heading && !c.hurried {
		c.hurried, c.deadline = true, time.Time{}
		if err := c.conn.SetReadDeadline(time.Now().Add(c.proxy.options.HeadTime)); err != nil {
			return 0, err
		}
	}
	return c.conn.Read(p)
}

// Write writes to the connection.
func (c *client) Write(p []byte) (int, error) {
	n, err := c.conn.Write(p)
	c.exchange.noteTold()
	return n, err
}

// refuse answers what is no proper request. Where the next would begin is not known.
func (c *client) refuse(err error) {
	var malformed http1.Error
	switch {
	case errors.As(err, &malformed):
		c.refuseAs(malformed.Status(), malformed.Name(), "not a proper request: "+malformed.Name())
	case isTimeout(err):
		c.refuseAs(http.StatusRequestTimeout, errorHeadTime, "the head of the request took too long")
	}
}

func (c *client) refuseAs(status int, code, text string) {
	c.proxy.metrics.malformed(code, outcomeRefused)
	c.proxy.log.Info("refused a request", "client", c.conn.RemoteAddr().String(), "error", code)
	x := &c.exchange
	if x.record == nil { // Of what is no proper request the log tells no more than that.
		x.record = c.proxy.newRecord(c.conn, x.received)
		defer x.record.end()
	}
	x.closes = true
	x.problem(status, code, text)
	c.linger()
}

// report counts what was let pass in audit mode.
func (c *client) report(findings http1.Errors) {
	if findings == 0 {
		return
	}
	findings.All(func(found http1.Error) bool {
		c.proxy.metrics.malformed(found.Name(), outcomePassed)
		return true
	})
}

// linger ends a connection on which the client may still be sending.
func (c *client) linger() {
	if closeWrite(c.conn) != nil || c.conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	buffer, put := c.proxy.buffers.get()
	defer put()
	for left := lingerMost; left > 0; {
		n, err := c.conn.Read(buffer)
		if err != nil {
			return
		}
		left -= n
	}
}

// isTimeout says that reading was given up because of its deadline.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// longAgo as a deadline ends whoever waits.
func longAgo() time.Time { return time.Unix(1, 0) }

// interrupt ends whoever reads from a connection.
func interrupt(conn net.Conn) {
	_ = conn.SetReadDeadline(longAgo()) // What cannot be interrupted has ended.
}

// cut ends the exchange that is left.
func (c *client) cut() { c.exchange.lose(errClientLeft) }

// requester is a connection on which requests come.
type requester interface {
	// closeIdle ends it in good order when nothing is open on it.
	closeIdle()
	// cut ends what is open on it.
	cut()
}

// entering is a connection of another proxy from its handshake on. As that proxy sees it the handshake
// ends earlier than here, and requests may be on their way: it must be told that they were not seen.
type entering struct{ conn *servedConn }

func (entering) closeIdle() {} // It finds the set closing when it comes to requests.
func (entering) cut()       {}

// clientSet holds all connections on which requests come.
type clientSet struct {
	mutex   sync.Mutex
	clients map[requester]struct{}
	closing bool
	// cut says that nothing is to be waited for any more.
	cut atomic.Bool
	// empty is closed when the set is closing and nothing is left in it.
	empty chan struct{}
}

func newClientSet() *clientSet {
	return &clientSet{clients: map[requester]struct{}{}, empty: make(chan struct{})}
}

func (s *clientSet) isClosing() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.closing
}

func (s *clientSet) add(c requester) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.closing {
		return false
	}
	s.clients[c] = struct{}{}
	return true
}

func (s *clientSet) remove(c requester) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.clients, c)
	s.endIfEmpty()
}

func (s *clientSet) endIfEmpty() {
	if s.closing && len(s.clients) == 0 {
		close(s.empty)
	}
}

// await waits until nothing is left, at most for a time.
func (s *clientSet) await(most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-s.empty:
	case <-timer.C:
	}
}

// closeIdle ends what is idle, and what becomes idle from now on.
func (s *clientSet) closeIdle() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.closing = true
	for c := range s.clients {
		c.closeIdle()
	}
	s.endIfEmpty()
}

// cutAll ends the exchanges that are left.
func (s *clientSet) cutAll() {
	s.cut.Store(true)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for c := range s.clients {
		c.cut()
	}
}

// contentReader reads a request's content as a stream.
type contentReader struct {
	reader *http1.Reader
	record *record
	rest   []byte
}

func (r *contentReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		var err error
		if r.rest, err = r.reader.Next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.record.came(n)
	r.rest = r.rest[n:]
	if len(r.rest) == 0 && r.reader.Ended() {
		return n, io.EOF // The answer may come before somebody asks for more.
	}
	return n, nil
}
