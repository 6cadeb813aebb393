// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/http1"
)

const (
	// resendsMost bounds how often one request is sent again to one endpoint. Each time may meet
	// another idle connection that has just ended.
	resendsMost = 16
	// resendsPooled is after how many of those a new connection is made.
	resendsPooled = 3
)

var errClientLeft = errors.New("the client has left")

// exchange carries one HTTP request to where its chooser says and the answer back. A client's
// connection has one, which is used again for each request.
type exchange struct {
	proxy   *Proxy
	client  *client
	context context.Context
	request http1.Request
	target  string
	// Where it may go: one of the two sides.
	choose   chooser
	inbound  inboundSide
	outbound outboundSide
	// skip are fields that the sender may not use; clientID is added unless it is empty.
	skip     http1.Kinds
	clientID string
	// peers says that a hop which is not the own application is a peer of it.
	peers bool
	// unmeshed says that the client has come from outside the mesh.
	unmeshed bool
	// caller is who has sent a request to the pod, refusal why it does not get in.
	caller  mesh.Caller
	refusal refusal

	received time.Time
	resends  int
	// nowhere says that the request could be sent nowhere.
	nowhere bool
	// lost says that a safe request got no answer and was sent to another hop.
	lost    bool
	retries retries
	// pacing is for answers that are held back; nil before the first.
	pacing *time.Timer
	// record is for the access log; nil when there is none.
	record *record
	// head says that the answer has no content, whatever its head says.
	head bool
	// closes says that the client's connection ends after the answer.
	closes bool

	// The content: in whole, or as it comes.
	content []byte
	body    *replayBody
	pumps   sync.WaitGroup
	pumping atomic.Int32

	mutex sync.Mutex
	// limits are of its time; tick is what their timer calls.
	limits limits
	tick   func()
	// headed says that the answer has begun, told that the client was written its beginning, spoiled that
	// its link cannot be used again.
	headed, told, spoiled bool
	// link is what the attempt at hand waits for.
	link *link
	// left says that the client is gone, broken that its content was malformed.
	left   bool
	broken error
	// watching is closed when nobody looks after the client any more; nil when nobody has.
	watching chan struct{}
}

func (x *exchange) reset(ctx context.Context, c *client) {
	x.proxy, x.client, x.context = c.proxy, c, ctx
	x.skip, x.clientID, x.peers, x.unmeshed = 0, "", false, false
	x.caller, x.refusal = mesh.Caller{}, refusal{}
	x.received = time.Now()
	x.resends, x.nowhere, x.lost, x.head, x.closes = 0, false, false, false, false
	x.content, x.body, x.watching, x.record, x.retries = nil, nil, nil, nil, retries{}
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.link, x.left, x.broken = nil, false, nil
	x.headed, x.told, x.spoiled = false, false, false
	x.limits.clear()
}

// carry runs the exchange to its end and says whether the client's connection can be used again.
func (x *exchange) carry() bool {
	x.takeContent()
	if x.refusal.code != "" {
		return x.turnAway()
	}
	var last *hop
	to, ok := x.choose.next()
	for ok {
		x.beginTry()
		l, err := x.send(to)
		if err == nil {
			to.load.trust()
			if other, retried := x.sendAgain(to, l); retried {
				last, to = to, other
				continue
			}
			again := x.answer(to, l)
			x.mirror()
			return again
		}
		if x.giveUp(to, err) {
			return x.finish(true)
		}
		last = to
		to, ok = x.choose.next()
	}
	x.refuse(last)
	return x.finish(true)
}

// willClose says whether the client's connection ends after the answer.
func (x *exchange) willClose() bool {
	return x.closes || !x.request.KeepsAlive() || !x.hasCome() || x.proxy.activity.draining() || x.shouldLeave()
}

// shouldLeave says that a client without a proxy, which keeps its connection to this pod until it is
// told to look again, would find a better one.
func (x *exchange) shouldLeave() bool {
	return x.unmeshed && (x.choose.attempts > 1 || withoutWeight(&x.proxy.config.Snapshot().Inbound))
}

// send makes one attempt, and again while it is certain that nothing was seen of it.
func (x *exchange) send(to *hop) (*link, error) {
	for {
		l, err := x.linkTo(to)
		if err != nil {
			return nil, err
		}
		if err = x.attempt(to, l); err == nil {
			return l, nil
		}
		// A link that was idle may have ended at that moment; safe requests may meet that.
		again := !x.gone() && (l.sentAgainSafely(err) || l.reused() && l.unheard() && safeMethod(x.method()))
		x.drop(l)
		if !again || !x.replayable() || x.resends == resendsMost {
			return nil, err
		}
		x.resends++
	}
}

// linkTo returns a link to a hop: one that is idle, or a new one. An application may end an idle
// connection at any moment, and nothing tells then whether it has seen the request that was on its
// way. What must not be sent twice has a connection of its own, which cannot meet that.
func (x *exchange) linkTo(to *hop) (*link, error) {
	upstreams := x.proxy.upstreams
	if to.http2 {
		if l, err := x.raise(to); !errors.Is(err, errOnlyHTTP1) {
			return l, err
		}
	}
	if to.identity == "" && !safeMethod(x.method()) {
		ctx, cancel := x.inTime()
		defer cancel()
		l, err := upstreams.open(ctx, to)
		if err == nil {
			l.single = true
		}
		return l, err
	}
	if x.resends < resendsPooled {
		if l := upstreams.pool.takeUnseen(linkKey{to.address, to.identity}, time.Now()); l != nil {
			return l, nil
		}
		return x.obtain(to)
	}
	ctx, cancel := x.inTime()
	defer cancel()
	return upstreams.open(ctx, to)
}

// attempt sends the request on a link and reads the head of its answer.
func (x *exchange) attempt(to *hop, l *link) error {
	to.sent = time.Now()
	l.begin(x, to.sent)
	if !x.use(l) {
		return errClientLeft // Or its time is up.
	}
	var content io.Reader
	if x.body != nil {
		var err error
		if content, err = x.body.attempt(); err != nil {
			return err
		}
	}
	w := l.writer
	w.Request(&x.request, http1.Sending{Skip: x.skip | x.record.skip(), Host: to.address, Close: l.single})
	x.addFields(w, to.local)
	w.EndHead()
	if x.body == nil {
		if err := w.Content(x.content); err != nil {
			return &http1.WriteError{Err: err}
		}
	}
	l.whole = x.body == nil
	if err := w.Flush(); err != nil {
		return &http1.WriteError{Err: err}
	}
	l.whole = false
	if content != nil {
		x.beginPump(l, content)
	}
	if err := x.readAnswer(l); err != nil {
		return err
	}
	return x.noteHead()
}

// addFields adds what the mesh says of a request.
func (x *exchange) addFields(w *http1.Writer, local bool) {
	if x.clientID != "" {
		w.Field(headerClientID, x.clientID)
	}
	if x.peers && !local {
		w.Field(headerHandoff, handoffValue(x.caller))
	}
	if parent := x.record.traceparent(); parent != "" {
		w.Field(headerTraceParent, parent)
	}
}

// giveUp decides what follows an attempt without an answer; it returns true when nothing does.
func (x *exchange) giveUp(to *hop, err error) bool {
	if x.hasLeft() {
		x.giveUpClient(to)
		return true
	}
	if code := x.timeUp(); code != "" {
		to.lost(time.Now())
		to.release()
		x.proxy.metrics.failure(x.choose.labelsOfFailure(to), code)
		x.proxy.log.Info("gave a request up", "to", to.address, "method", x.method(), "error", code)
		x.problem(http.StatusGatewayTimeout, code, timeoutText(code))
		return true
	}
	if x.cannotRaise(to, err) {
		return true
	}
	var connect *connectError
	if errors.As(err, &connect) {
		x.proxy.log.Debug("connect failed", "to", to.address, "error", err)
		x.choose.failed(to, connect)
		if x.replayable() {
			return false
		}
		x.refuse(to)
		return true
	}
	var malformed http1.Error
	answered := errors.As(err, &malformed)
	if safeMethod(x.method()) && !x.lost && !answered && x.replayable() {
		x.lost = true
		x.proxy.metrics.failure(x.choose.labelsOfFailure(to), errorReset) // This attempt counts, too.
		x.choose.failed(to, &connectError{address: to.address, err: err})
		return false
	}
	to.lost(time.Now())
	to.release()
	x.proxy.log.Info("no answer", "to", to.address, "method", x.method(), "error", err)
	failure := errorReset
	if answered {
		failure = errorMalformed
		x.proxy.metrics.malformed(malformed.Name(), outcomeRefused)
	}
	x.proxy.metrics.failure(x.choose.labelsOfFailure(to), failure)
	x.problem(http.StatusBadGateway, failure, "no answer from "+to.address)
	return true
}

// giveUpClient ends an exchange whose client has left, or has sent content that is no proper one.
func (x *exchange) giveUpClient(to *hop) {
	to.left(time.Now())
	to.release()
	var malformed http1.Error
	if errors.As(x.broken, &malformed) {
		x.client.refuse(malformed)
		return
	}
	// What it may have waited for too long is for the gate to see.
	x.closes = true
	x.record.failed(errorCanceled)
	x.proxy.metrics.failure(x.choose.labelsOfFailure(to), errorCanceled)
}

// refuse answers a request that could be sent nowhere.
func (x *exchange) refuse(last *hop) {
	x.nowhere = true
	x.proxy.metrics.failure(x.choose.labelsOfFailure(last), x.choose.failure())
	if !x.choose.shed { // A flood would fill the log.
		x.proxy.log.Info("nowhere to send", "host", string(x.request.Host()), "last", last.name(), "attempts", x.choose.attempts)
	}
	x.problemLater(http.StatusServiceUnavailable, x.choose.failure(), x.choose.failureText(), x.choose.retryAfter())
}

// turnAway answers a request that does not get in.
func (x *exchange) turnAway() bool {
	x.nowhere = true
	x.problemLater(x.refusal.status, x.refusal.code, x.refusal.text, x.refusal.retryAfter)
	return x.finish(true)
}

// finish ends what still looks at the client, puts the link back and says whether the client's
// connection can be used again. An answer that is not complete ends both.
func (x *exchange) finish(complete bool) bool {
	x.stopWatching()
	sent := x.endContent()
	l, spoiled := x.end()
	if l != nil {
		if complete && sent && l.usable() && !spoiled && !x.gone() {
			x.proxy.upstreams.pool.put(l, time.Now())
		} else {
			l.close()
		}
	}
	if !complete || x.hasLeft() {
		return false
	}
	if !x.hasCome() {
		x.client.linger()
		return false
	}
	return !x.closes
}

// targetText is the request's target. It is mostly that of the request before.
func (x *exchange) targetText() string {
	if target := x.request.Target(); x.target != string(target) {
		x.target = string(target)
	}
	return x.target
}

func (x *exchange) method() string {
	switch method := x.request.Method(); string(method) {
	case http.MethodGet:
		return http.MethodGet
	case http.MethodPost:
		return http.MethodPost
	default:
		return string(method)
	}
}

// tunnel joins client and server when both have agreed to go on with something else.
func (x *exchange) tunnel(l *link) {
	x.stopWatching()
	x.settle() // What was agreed to has met its time.
	x.end()
	idle := x.limits.timeouts.Idle
	l.exchange = nil
	_ = l.conn.SetDeadline(time.Time{})        // Copying will tell.
	_ = x.client.conn.SetDeadline(time.Time{}) // As above.
	w := x.client.writer
	w.Response(&l.response, http1.Sending{Framing: http1.Tunnel})
	w.EndHead()
	// What was read ahead belongs to what follows.
	_ = w.Content(l.reader.Unread()) // Flushing will tell.
	x.client.conn.prefix = x.client.reader.Unread()
	if w.Flush() != nil {
		l.close() // The client has gone.
		return
	}
	x.proxy.pipe(x.client.conn, l.conn, idle)
}
