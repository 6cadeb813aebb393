// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/proxy/accesslog"
	"github.com/sluice-mesh/sluice/proxy/http1"
	"github.com/sluice-mesh/sluice/proxy/tracing"
)

const headerTraceParent = "traceparent"

// record is what the access log, a span and taps will tell of a request. Its methods do nothing on nil, as mostly
// nobody asks for any.
type record struct {
	log *accesslog.Log // Nil when none is written.
	// tracer gets the span, whose place in its trace is span; nil for a request that is not traced.
	tracer *tracing.Exporter
	span   tracing.Context
	// taps are told of it.
	taps []*tap
	// grpc says that the proxy's own answers are those of gRPC.
	grpc bool
	// received and answered count content, whoever carries it.
	received, answered atomic.Int64

	// A request of HTTP/2 may end in more than one way at once.
	mutex sync.Mutex
	entry accesslog.Entry
	ended bool
}

// newRecord begins the record of a request that came on a connection.
func (p *Proxy) newRecord(conn *servedConn, received time.Time) *record {
	if p.accessLog == nil {
		return nil
	}
	return p.begunRecord(conn, received)
}

// traceRecord has the record of a request, if it is traced, make a span as well. Values are those of the
// request's traceparent.
func (p *Proxy) traceRecord(r *record, conn *servedConn, received time.Time, values []string) *record {
	span, traced := tracing.Begin(values, p.options.Tracing.Ratio, rand.Float64)
	if !traced {
		return r
	}
	if r == nil {
		r = p.begunRecord(conn, received)
	}
	r.tracer, r.span = p.tracer, span
	return r
}

func (p *Proxy) begunRecord(conn *servedConn, received time.Time) *record {
	r := &record{log: p.accessLog, entry: accesslog.Entry{
		Received:  received,
		Direction: directionOf(conn),
		ClientID:  conn.info.client,
	}}
	if client, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		address := client.AddrPort()
		r.entry.Client = netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
	}
	return r
}

// directionOf says which way the requests of a connection go.
func directionOf(conn *servedConn) string {
	return cmp.Or(conn.info.labels.direction, directionOutbound)
}

// describe takes what the log tells of a request of HTTP/1.1: its head does not stay for as long.
func (r *record) describe(x *exchange) {
	if r == nil {
		return
	}
	e, view := &r.entry, viewOf(&x.request, x.method(), x.targetText())
	e.Method, e.Path, e.Query, e.Version = view.method, view.path, view.query, "HTTP/1.0"
	if x.request.Version1() {
		e.Version = "HTTP/1.1"
	}
	e.Host, e.UserAgent, e.Referer = string(x.request.Host()), string(x.request.Value("user-agent")), string(x.request.Value("referer"))
	e.TraceID = r.traceID(x.request.Values(headerTraceParent))
}

// describeStream is describe for a request of HTTP/2.
func (r *record) describeStream(x *stream) {
	if r == nil {
		return
	}
	e, view := &r.entry, viewOfStream(x.head)
	e.Method, e.Path, e.Query, e.Version = view.method, view.path, view.query, "HTTP/2.0"
	e.Host, e.UserAgent, e.Referer = x.head.Authority, x.head.Value("user-agent"), x.head.Value("referer")
	e.TraceID = r.traceID(x.head.Values(headerTraceParent))
	r.grpc = x.isGRPC()
}

func (r *record) traceID(values []string) string {
	if r.tracer != nil {
		return r.span.TraceID()
	}
	return onlyTraceID(values)
}

// traceparent is what the next hop is told instead of what has come, and skip the fields that have; empty for
// a request that is not traced, of which everything goes on as it is.
func (r *record) traceparent() string {
	if r == nil || r.tracer == nil {
		return ""
	}
	return r.span.Traceparent()
}

func (r *record) skip() http1.Kinds {
	switch {
	case r == nil || r.tracer == nil:
		return 0
	case r.span.Fresh: // What there may be of a state is that of another trace.
		return http1.Of(http1.KindTraceParent, http1.KindTraceState)
	}
	return http1.Of(http1.KindTraceParent)
}

// onlyTraceID is the trace that a request belongs to: none where it names two.
func onlyTraceID(traceparents []string) string {
	if len(traceparents) != 1 {
		return ""
	}
	return accesslog.TraceID(traceparents[0])
}

// came counts content of the request, went content of the answer.
func (r *record) came(n int) {
	if r != nil {
		r.received.Add(int64(n))
	}
}

func (r *record) went(n int) {
	if r != nil {
		r.answered.Add(int64(n))
	}
}

// hop notes who has answered, with which status and how soon.
func (r *record) hop(to *hop, status int, latency time.Duration) {
	if r == nil {
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.entry.Endpoint, r.entry.Hash = to.address, to.revision.hash
	r.entry.Status, r.entry.FirstByte = status, latency
}

// failed notes what has cut an answer short, if anything has.
func (r *record) failed(code string) {
	if r == nil || code == "" {
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.entry.Error = code
}

// answer notes an answer in the proxy's own name.
func (r *record) answer(status int, code string) {
	if r == nil {
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.entry.Status, r.entry.Error = status, code
	if r.grpc {
		r.entry.Status, r.entry.GRPCStatus = http.StatusOK, grpcStatusOf(code)
	}
}

// finish notes what came of a request of HTTP/2, and writes the record where nothing else is answered.
func (r *record) finish(a *attempt, came responseLabels, failure string, latency time.Duration) {
	if r == nil {
		return
	}
	if came.status != 0 {
		r.hop(a.to, came.status, latency)
	}
	r.failed(failure)
	r.mutex.Lock()
	r.entry.GRPCStatus = knownGRPC(came.grpcStatus)
	r.mutex.Unlock()
	if failure == "" || failure == errorCanceled {
		r.end()
	}
}

// end writes the record, once.
func (r *record) end() {
	if r == nil {
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.ended {
		return
	}
	r.ended = true
	r.entry.RequestBytes, r.entry.ResponseBytes = r.received.Load(), r.answered.Load()
	r.entry.Total = time.Since(r.entry.Received)
	if r.log != nil {
		r.log.Add(&r.entry)
	}
	if r.tracer != nil {
		r.tracer.Add(&r.span, &r.entry)
	}
	for _, one := range r.taps {
		one.tell(&r.entry)
	}
}
