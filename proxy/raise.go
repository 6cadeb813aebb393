// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-mesh/sluice/proxy/http1"
	"github.com/sluice-mesh/sluice/proxy/http2"
)

// unraisedMost is how much of a request's content is queued for its stream. What an exchange sends in one
// piece, before it looks for an answer, is less.
const unraisedMost = 256 << 10

// errNotRaised is for requests that HTTP/2 has no word for.
var errNotRaised = errors.New("HTTP/2 has no word for the request")

// raised carries a request of HTTP/1.1 over a stream of HTTP/2. To its exchange it looks like an endpoint
// that speaks HTTP/1.1, at the other end of a connection: what is written there is read and sent on, what
// comes back is written.
type raised struct {
	conn  net.Conn
	trunk *trunk
	pool  *http1.Buffers
	// stream is there from when the request's head was read; head says that it is a HEAD.
	stream *http2.Stream
	head   bool
	// unprocessed says that the endpoint has not begun with the request.
	unprocessed atomic.Bool

	mutex sync.Mutex
	// changed is told of everything below.
	changed *sync.Cond
	// What has come of the answer and was not written yet.
	heads    []*http2.Head
	content  []byte
	trailers []hpack.HeaderField
	// ends says that all of the answer has come, gone that nothing comes any more.
	ends, gone bool
	interim    int
	// unsent is how much of the request's content was not sent yet.
	unsent int
}

// raise returns a link to a hop that speaks HTTP/2, for one request. It returns errOnlyHTTP1 for one that
// does not, whatever was declared.
func (x *exchange) raise(to *hop) (*link, error) {
	upstreams := x.proxy.upstreams
	ctx, cancel := x.inTime()
	defer cancel()
	t, err := upstreams.trunks.take(ctx, to)
	var connect *connectError
	switch {
	case errors.Is(err, errOnlyHTTP1), errors.As(err, &connect):
		return nil, err
	case err != nil:
		return nil, &connectError{to.address, err, isChance(err)}
	case x.request.Upgrades(), x.request.Asked().Connect, x.request.Findings() != 0:
		return nil, errNotRaised
	}
	near, far := net.Pipe()
	r := &raised{conn: far, trunk: t, pool: &upstreams.messages, head: x.request.Asked().Head}
	r.changed = sync.NewCond(&r.mutex)
	l := linkOver(&upstreamConn{Conn: raisedEnd{near, r}}, keyOf(to))
	l.reader = http1.NewReader(l, &upstreams.messages, upstreams.rules)
	l.writer = http1.NewWriter(l, &upstreams.messages)
	l.single, l.raised = true, r
	x.proxy.serving.Go(r.run)
	return l, nil
}

// raisedEnd is the exchange's end of the connection. Who waits until there is room for more of the content does
// not look at the other end, and would wait for an endpoint that takes no more of it without an end.
type raisedEnd struct {
	net.Conn
	raised *raised
}

func (e raisedEnd) Close() error {
	e.raised.leave()
	return e.Conn.Close()
}

// cannotRaise answers a request that HTTP/2 has no word for, as often as it is made.
func (x *exchange) cannotRaise(to *hop, err error) bool {
	if !errors.Is(err, errNotRaised) {
		return false
	}
	defer to.release()
	for finding := range x.request.Findings().All { // HTTP/2 has no audit mode.
		x.proxy.metrics.malformed(finding.Name(), outcomeRefused)
		x.problem(finding.Status(), finding.Name(), "not a proper request: "+finding.Name())
		return true
	}
	x.proxy.metrics.failure(x.choose.labelsOfFailure(to), errorHTTP2Only)
	x.problem(http.StatusNotImplemented, errorHTTP2Only, to.address+" speaks HTTP/2, which knows no upgrades")
	return true
}

// run sends the request on and has the answer written until the exchange is done with the connection.
func (r *raised) run() {
	defer func() { _ = r.conn.Close() }() // Nobody is left to tell.
	rules := http1.Rules{MaxHead: answerHeadMost, MaxFields: 2 * http1.DefaultMaxFields}
	reader := http1.NewReader(r.conn, r.pool, rules) // With what the mesh has added it may be more than a client may send.
	defer reader.Release()
	var request http1.Request
	if reader.ReadRequest(&request) != nil {
		return // The exchange was given up.
	}
	whole := request.Framing() == http1.NoContent
	if r.stream = r.trunk.conn.Open(http2.FromHTTP1Request(&request), whole, r); r.stream == nil {
		r.unprocessed.Store(true) // Others have filled it just before.
		return
	}
	var answering sync.WaitGroup
	answering.Go(r.answer)
	if r.send(reader, whole) {
		_ = reader.Await() // Until the exchange is done.
	}
	r.stream.Reset(h2.ErrCodeCancel) // If it has ended that changes nothing.
	_ = r.conn.Close()               // As above.
	r.leave()
	answering.Wait()
}

// send sends the content on as it comes. It returns false when it was broken off.
func (r *raised) send(reader *http1.Reader, whole bool) bool {
	for {
		data, err := reader.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return false
			}
			break
		}
		r.awaitRoom(len(data))
		r.stream.SendData(data, false)
	}
	switch trailers := http2.TrailersFromHTTP1(reader); {
	case len(trailers) > 0:
		r.stream.SendTrailers(trailers)
	case !whole:
		r.stream.SendData(nil, true)
	}
	return true
}

// awaitRoom waits until the endpoint has taken enough to send it more.
func (r *raised) awaitRoom(more int) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for r.unsent >= unraisedMost && !r.gone {
		r.changed.Wait()
	}
	r.unsent += more
}

// answer writes what comes back.
func (r *raised) answer() {
	w := http1.NewWriter(r.conn, r.pool)
	defer w.Discard()
	framing := http1.NoContent
	var heads []*http2.Head
	var content []byte
	for {
		var ends, gone bool
		heads, content, ends, gone = r.next(heads, content)
		for i, h := range heads {
			framing = h.WriteHTTP1(w, r.head, ends && i == len(heads)-1 && len(content) == 0 && r.trailers == nil)
		}
		_ = w.Content(content) // Flushing will tell.
		if ends {
			http2.EndHTTP1(w, framing, r.trailers)
		}
		if w.Flush() != nil || gone && !ends {
			_ = r.conn.Close() // What has come so far must not look whole, and is not: its end is missing.
			return
		}
		if ends {
			return
		}
		r.stream.Consumed(len(content))
	}
}

// next waits for more of the answer, in exchange for what was written. gone says that nothing follows.
func (r *raised) next(heads []*http2.Head, content []byte) (_ []*http2.Head, _ []byte, ends, gone bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for len(r.heads) == 0 && len(r.content) == 0 && !r.ends && !r.gone {
		r.changed.Wait()
	}
	clear(heads)
	heads, r.heads = r.heads, heads[:0]
	content, r.content = r.content, content[:0]
	return heads, content, r.ends, r.gone
}

// leave says that nobody waits for the answer.
func (r *raised) leave() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.gone = true
	r.changed.Broadcast()
}

// Head is a head of the answer, or its trailers.
func (r *raised) Head(h *http2.Head, end bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	switch {
	case h.Status == 0:
		r.trailers = slices.Clone(h.Fields)
	case h.Interim():
		if r.interim++; r.interim > interimMost {
			return // They are in no window.
		}
		r.heads = append(r.heads, h)
	default:
		r.heads = append(r.heads, h)
	}
	r.ends = r.ends || end
	r.changed.Broadcast()
}

// Data is content of the answer.
func (r *raised) Data(data []byte, end bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.content = append(r.content, data...)
	r.ends = r.ends || end
	r.changed.Broadcast()
}

// Sent says that as much of the content was sent.
func (r *raised) Sent(n int) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.unsent -= n
	r.changed.Broadcast()
}

// Ended says that the endpoint has broken off, or was done before all of the request had come.
func (r *raised) Ended(err error) {
	r.unprocessed.Store(errors.Is(err, http2.ErrUnprocessed))
	r.leave()
}
