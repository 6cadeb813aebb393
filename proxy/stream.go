// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/http1"
	"github.com/sluice-mesh/sluice/proxy/http2"
)

// stream carries one HTTP/2 request to where its chooser says and the answer back: what exchange is
// for HTTP/1.1. Nobody waits for it; frames that come move it on.
type stream struct {
	proxy  *Proxy
	client *multiplexed
	// down is the client's stream.
	down     *http2.Stream
	head     *http2.Head
	context  context.Context
	cancel   context.CancelFunc
	received time.Time

	choose   chooser
	inbound  inboundSide
	outbound outboundSide
	origin   origin
	// peers says that a hop which is not the own application is a peer of it.
	peers bool
	// caller is who has sent a request to the pod, refusal why it does not get in.
	caller  mesh.Caller
	refusal refusal

	// record is for the access log; nil when there is none.
	record *record

	mutex sync.Mutex
	// limits are of its time.
	limits limits
	// at is the attempt that the client is joined with; nil while there is none.
	at *attempt
	// kept is the content so far, while it may have to be sent again; gone says that it is too much.
	kept []byte
	gone bool
	// whole says that the request has ended with its head, ended that all of it has come, trailers what
	// came last.
	whole    bool
	ended    bool
	trailers []hpack.HeaderField
	// credited is how much of the content the client was told to be passed on.
	credited int
	resends  int
	// lost says that a safe request got no answer and was sent to another hop.
	lost    bool
	retries retries
	held    held
	// over says that nothing is to be told to the client any more, counted that the request was.
	over, counted bool
}

// carry sends the request to a hop or, when that fails, to others. It waits for connections.
func (x *stream) carry(to *hop) {
	for again := 0; ; {
		t, err := x.proxy.upstreams.trunks.take(x.context, to)
		switch {
		case err == nil && x.send(to, t):
			return
		case err == nil && again < resendsMost:
			again++ // It has just been filled by others, or has ended.
			continue
		case err == nil:
			err = &connectError{address: to.address, err: http2.ErrGone, chance: true}
		case errors.Is(err, errOnlyHTTP1) && x.isGRPC():
			x.refuseGRPC(to)
			return
		case errors.Is(err, errOnlyHTTP1):
			if err = x.sendOld(to); err == nil {
				return
			}
			x.proxy.upstreams.trunks.forget(keyOf(to))
		}
		var connect *connectError
		if !errors.As(err, &connect) || x.context.Err() != nil {
			x.leave(to)
			return
		}
		x.proxy.log.Debug("connect failed", "to", to.address, "error", err)
		x.choose.failed(to, connect)
		last := to
		var ok bool
		if to, ok = x.next(); !ok {
			x.refuse(last)
			return
		}
	}
}

// leave ends a request whose client has gone, or whose time is up, before it was sent anywhere.
func (x *stream) leave(to *hop) {
	to.release()
	failure := cmp.Or(x.timeUp(), errorCanceled)
	x.count(func() {
		x.proxy.metrics.failure(x.choose.labelsOfFailure(to), failure)
		x.record.failed(failure)
		if failure == errorCanceled {
			x.record.end()
		}
	}, true)
	if failure != errorCanceled {
		x.problem(http.StatusGatewayTimeout, failure, timeoutText(failure))
	}
}

// send begins an attempt. It returns false when the connection has no room for one.
func (x *stream) send(to *hop, t *trunk) bool {
	x.mutex.Lock()
	if x.over {
		x.mutex.Unlock()
		x.leave(to)
		return true
	}
	defer x.mutex.Unlock()
	to.sent = time.Now()
	a := &attempt{stream: x, to: to, load: to.load}
	// Where the client has ended its request with an empty frame it is ended with one: gRPC's servers do
	// not see the end of a stream in its head.
	up := t.conn.Open(x.headTo(to), x.whole, a)
	if up == nil {
		return false
	}
	a.up, x.at = up, a
	x.noteSent()
	if len(x.kept) > 0 || x.ended && !x.whole && x.trailers == nil {
		up.SendData(x.kept, x.ended && x.trailers == nil)
	}
	if x.trailers != nil {
		up.SendTrailers(x.trailers)
	}
	return true
}

// sendOld carries the request over a link of HTTP/1.1, and returns when it has been answered.
func (x *stream) sendOld(to *hop) error {
	request, err := x.headTo(to).Downgrade(x.whole)
	if err != nil {
		x.refuseMalformed(to, err)
		return nil
	}
	l, err := x.linkTo(to)
	if err != nil {
		return err
	}
	to.sent = time.Now()
	a := &attempt{stream: x, to: to, load: to.load}
	d := newDowngrade(a, l, request, x.whole)
	a.up = d
	x.mutex.Lock()
	if x.over {
		x.mutex.Unlock()
		l.close()
		x.leave(to)
		return nil
	}
	x.at = a
	x.noteSent()
	if len(x.kept) > 0 || x.ended {
		d.SendData(x.kept, x.ended && x.trailers == nil)
	}
	if x.trailers != nil {
		d.SendTrailers(x.trailers)
	}
	x.mutex.Unlock()
	d.run()
	return nil
}

// linkTo returns a link to a hop as exchange.linkTo does: a new one for what must not be sent twice to
// an application, and when one that was idle has failed.
func (x *stream) linkTo(to *hop) (*link, error) {
	upstreams := x.proxy.upstreams
	single := to.identity == "" && !safeMethod(x.head.Method)
	if !single && x.resends == 0 {
		if l := upstreams.pool.take(keyOf(to), time.Now()); l != nil {
			return l, nil
		}
	}
	l, err := upstreams.open(x.context, to)
	if err == nil {
		l.single = single
	}
	return l, err
}

// headTo is the head as a hop gets it.
func (x *stream) headTo(to *hop) *http2.Head {
	h := *x.head
	h.Fields = make([]hpack.HeaderField, 0, len(x.head.Fields)+2)
	h.Fields = appendUnowned(h.Fields, x.head.Fields, x.origin.skip|x.record.skip())
	if x.origin.clientID != "" {
		h.Fields = append(h.Fields, hpack.HeaderField{Name: headerClientID, Value: x.origin.clientID})
	}
	if x.peers && !to.local {
		h.Fields = append(h.Fields, hpack.HeaderField{Name: headerHandoff, Value: handoffValue(x.caller)})
	}
	if parent := x.record.traceparent(); parent != "" {
		h.Fields = append(h.Fields, hpack.HeaderField{Name: headerTraceParent, Value: parent})
	}
	return &h
}

// appendUnowned appends fields without those that their sender may not use.
func appendUnowned(to, fields []hpack.HeaderField, skip http1.Kinds) []hpack.HeaderField {
	for i := range fields {
		if skip.Has(http1.KindOf([]byte(fields[i].Name))) {
			continue
		}
		to = append(to, fields[i])
	}
	return to
}

// Data is content from the client.
func (x *stream) Data(data []byte, end bool) {
	x.record.came(len(data))
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.ended = end
	if !x.gone {
		x.kept = append(x.kept, data...)
	}
	if x.at != nil {
		if len(x.kept) > replayLimit {
			x.kept, x.gone = nil, true
		}
		x.at.up.SendData(data, end)
	}
}

// Head is the client's trailers.
func (x *stream) Head(h *http2.Head, _ bool) {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.ended = true
	x.trailers = appendUnowned([]hpack.HeaderField{}, h.Fields, http1.Owned)
	if x.at != nil {
		x.at.up.SendTrailers(x.trailers)
	}
}

// Sent says that as much of the answer has been written to the client.
func (x *stream) Sent(n int) {
	x.mutex.Lock()
	at := x.at
	x.mutex.Unlock()
	if at != nil {
		x.credit(at, n)
	}
}

// Ended says that the client has broken off, or has sent what cannot be sent on.
func (x *stream) Ended(err error) {
	x.mutex.Lock()
	x.over = true
	at := x.at
	x.mutex.Unlock()
	x.cancel()
	if at == nil {
		return // Whoever looks for a way sees it.
	}
	code := h2.ErrCodeCancel
	var reset http2.ResetError
	if errors.As(err, &reset) {
		code = reset.Code
	}
	at.up.Reset(code)
	var malformed http2.MalformedError
	at.finish(errorCanceled, errors.As(err, &malformed))
}

// refuse answers a request that could be sent nowhere.
func (x *stream) refuse(last *hop) {
	failure := x.choose.failure()
	x.count(func() { x.proxy.metrics.failure(x.choose.labelsOfFailure(last), failure) }, false)
	if !x.choose.shed { // A flood would fill the log.
		x.proxy.log.Info("nowhere to send", "host", x.head.Authority, "last", last.name(), "attempts", x.choose.attempts)
	}
	x.problemLater(http.StatusServiceUnavailable, failure, x.choose.failureText(), x.choose.retryAfter())
}

// turnAway answers a request that does not get in.
func (x *stream) turnAway() {
	x.count(func() {}, false)
	x.problemLater(x.refusal.status, x.refusal.code, x.refusal.text, x.refusal.retryAfter)
}

// refuseGRPC answers a call of gRPC that has come to who cannot speak it, as often as it is made.
func (x *stream) refuseGRPC(to *hop) {
	x.count(func() {
		x.proxy.metrics.failure(x.choose.labelsOfFailure(to), errorHTTP1Only)
		to.release()
	}, true)
	x.problem(http.StatusHTTPVersionNotSupported, errorHTTP1Only, to.address+" speaks only HTTP/1.1")
}

// refuseMalformed answers a request that HTTP/1.1 has no way to say.
func (x *stream) refuseMalformed(to *hop, err error) {
	var why http1.Error
	errors.As(err, &why)
	x.count(func() {
		x.proxy.metrics.malformed(why.Name(), outcomeRefused)
		to.release()
	}, true)
	x.problem(why.Status(), why.Name(), "not a proper request: "+why.Name())
}

// count counts the request once.
func (x *stream) count(how func(), carried bool) {
	x.mutex.Lock()
	counted := x.counted
	x.counted = true
	x.limits.lift()
	x.limits.stop()
	x.mutex.Unlock()
	if counted {
		return
	}
	how()
	x.cancel()
	x.proxy.activity.done(carried)
}

// problem answers in the proxy's own name, with a code that does not change. gRPC has its status in
// fields.
func (x *stream) problem(status int, code, text string) { x.problemLater(status, code, text, 0) }

// problemLater says as well in how many seconds the client may ask again, unless it is 0: in the word of
// gRPC's clients for that, too (its proposal A6).
func (x *stream) problemLater(status int, code, text string, seconds int64) {
	x.leaveIfTold()
	x.record.answer(status, code)
	defer x.record.end()
	field := func(name, value string) hpack.HeaderField { return hpack.HeaderField{Name: name, Value: value} }
	if x.isGRPC() {
		fields := []hpack.HeaderField{
			field("content-type", "application/grpc"), field(headerError, code),
			field("grpc-status", grpcStatusOf(code)), field("grpc-message", "sluice: "+text),
		}
		if seconds > 0 {
			fields = append(fields, field("grpc-retry-pushback-ms", strconv.FormatInt(1000*seconds, 10)))
		}
		x.down.SendHead(&http2.Head{Status: http.StatusOK, Fields: fields}, true)
		x.down.Reset(h2.ErrCodeNo)
		return
	}
	fields := []hpack.HeaderField{field("content-type", "text/plain; charset=utf-8"), field(headerError, code)}
	if seconds > 0 {
		fields = append(fields, field("retry-after", strconv.FormatInt(seconds, 10)))
	}
	headOnly := x.head.Method == http.MethodHead
	x.down.SendHead(&http2.Head{Status: status, Fields: fields}, headOnly)
	if !headOnly {
		x.record.went(len(text) + 1)
	}
	x.down.SendData([]byte(text+"\n"), true)
	x.down.Reset(h2.ErrCodeNo)
}

func (x *stream) isGRPC() bool {
	rest, found := strings.CutPrefix(x.head.Value("content-type"), "application/grpc")
	return found && (rest == "" || rest[0] == '+' || rest[0] == ';') // gRPC-Web is something else.
}

// leaveIfTold asks the client to come again by another connection where that would be better for it.
func (x *stream) leaveIfTold() {
	unmeshed := x.origin.unmeshed && (x.choose.attempts > 1 || withoutWeight(&x.proxy.config.Snapshot().Inbound))
	if unmeshed || x.proxy.activity.draining() {
		x.client.h2.Shutdown()
	}
}
