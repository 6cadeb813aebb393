// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"time"

	"github.com/sluice-mesh/sluice/proxy/http2"
)

// multiplexed is a client's connection of HTTP/2, on which requests come side by side.
type multiplexed struct {
	proxy   *Proxy
	context context.Context
	conn    *servedConn
	begin   func(*stream)
	h2      *http2.Conn
	unused  *time.Timer
}

// What the own application and other proxies may do, who speak for many: a client that cancels a
// thousand requests a second may have its reasons, and all that it has open would go with its
// connection.
const (
	trustedStreams = 1 << 16
	trustedResets  = 20000
)

// serveStreams carries the requests of a connection until it ends. begin says where one may go.
func (p *Proxy) serveStreams(ctx context.Context, conn *servedConn, begin func(*stream), trusted bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &multiplexed{proxy: p, context: ctx, conn: conn, begin: begin}
	limits := http2.Limits{MaxHead: p.options.HTTP.MaxHead, MaxFields: p.options.HTTP.MaxFields, HeadTime: p.options.HeadTime}
	if trusted {
		limits.MaxStreams, limits.Resets, limits.IdleFrames = trustedStreams, trustedResets, trustedResets
	}
	m.h2 = http2.NewServer(conn, http2.Options{Limits: limits, Request: m.request, Refused: m.refused})
	if !p.clients.add(m) {
		m.h2.Leave() // The proxy is at its end. What the client has sent already can go elsewhere.
		m.h2.Serve()
		return
	}
	defer p.clients.remove(m)
	m.unused = time.AfterFunc(idleClient, m.closeIfUnused)
	defer m.unused.Stop()
	m.h2.Serve()
}

// closeIfUnused ends a connection on which nothing has been asked for long.
func (m *multiplexed) closeIfUnused() {
	since := m.h2.Idle()
	if !since.IsZero() && time.Since(since) >= idleClient {
		m.h2.Leave()
		return
	}
	m.unused.Reset(idleClient)
}

// closeIdle ends the connection in good order: what is open is carried, what comes is not.
func (m *multiplexed) closeIdle() { m.h2.Leave() }

// cut ends the connection with what is open.
func (m *multiplexed) cut() { m.h2.Close() }

// refused counts what was no proper message.
func (m *multiplexed) refused(why http2.MalformedError) {
	m.proxy.metrics.malformed(string(why), outcomeRefused)
	refused := m.proxy.newRecord(m.conn, time.Now())
	refused.failed(string(why))
	refused.end()
	m.proxy.log.Info("refused a request", "client", m.conn.RemoteAddr().String(), "error", string(why))
}

// request begins to carry a request.
func (m *multiplexed) request(down *http2.Stream, head *http2.Head, end bool) {
	x := &stream{proxy: m.proxy, client: m, down: down, head: head, whole: end, ended: end, received: time.Now()}
	x.context, x.cancel = context.WithCancel(m.context)
	down.Receive(x)
	m.proxy.activity.add()
	x.record = m.proxy.newRecord(m.conn, x.received)
	if m.proxy.tracer != nil {
		x.record = m.proxy.traceRecord(x.record, m.conn, x.received, head.Values(headerTraceParent))
	}
	if list := m.proxy.taps.list.Load(); list != nil {
		x.record = m.proxy.tapRecord(x.record, m.conn, x.received, *list, viewOfStream(head))
	}
	x.record.describeStream(x)
	m.begin(x)
	if x.refusal.code != "" {
		x.turnAway()
		return
	}
	to, ok := x.next()
	if !ok {
		x.refuse(nil)
		return
	}
	if t := m.proxy.upstreams.trunks.ready(keyOf(to)); t != nil && x.send(to, t) {
		return
	}
	m.proxy.serving.Go(func() { x.carry(to) })
}
