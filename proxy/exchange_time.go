// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

// tellTime is how long a client may take to accept the beginning of an answer whose time is up: only one
// that does not read at all needs any of it.
const tellTime = 10 * time.Second

// limit takes the timeouts of the request's destination.
func (x *exchange) limit(timeouts mesh.Timeouts) {
	if timeouts == (mesh.Timeouts{}) {
		return
	}
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.limits.begin(timeouts, x.received)
	x.limits.arm(time.Now(), x.tick)
}

// beginTry begins the time of a try.
func (x *exchange) beginTry() {
	if !x.limits.given() {
		return
	}
	now := time.Now()
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.limits.beginTry(now)
	x.limits.arm(now, x.tick)
}

// inTime is the context in which a link is opened: nobody else ends that when the time is up.
func (x *exchange) inTime() (context.Context, context.CancelFunc) {
	if x.limits.given() {
		x.mutex.Lock()
		at, _ := x.limits.next()
		x.mutex.Unlock()
		if !at.IsZero() {
			return context.WithDeadline(x.context, at)
		}
	}
	return x.context, func() {}
}

// obtain returns a new link, or one that another request has put back.
func (x *exchange) obtain(to *hop) (*link, error) {
	if !x.limits.given() {
		return x.proxy.upstreams.obtain(x.context, *to, nil)
	}
	ctx, cancel := x.inTime()
	defer cancel()
	return x.proxy.upstreams.obtain(x.context, *to, ctx.Done())
}

// movement is what is to be told of bytes that come or go.
func (x *exchange) movement() *atomic.Int64 {
	if x.limits.timeouts.Idle == 0 {
		return nil
	}
	return &x.limits.moved
}

// lookAtTime is called by the timer. When the time is up it ends whoever reads or writes, as lose does
// for a client that has left. A client that has got a part of the answer may not take the rest: its
// connection is of no use any more. One that is still to be written its beginning shall see an answer that
// breaks off: a request that was carried out must not look like one that was not answered.
func (x *exchange) lookAtTime() {
	now := time.Now()
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.limits.fires = time.Time{}
	if x.left || x.limits.passed != "" {
		return
	}
	if !x.limits.pass(now) {
		x.limits.arm(now, x.tick)
		return
	}
	if x.link != nil {
		_ = x.link.conn.SetDeadline(longAgo()) // A server may neither read nor answer.
	}
	switch {
	case x.told:
		_ = x.client.conn.SetWriteDeadline(longAgo()) // As above.
	case x.headed:
		_ = x.client.conn.SetWriteDeadline(now.Add(tellTime)) // As above.
	}
}

// noteTold notes that the client was written something, whose time may have been up before.
func (x *exchange) noteTold() {
	if !x.limits.given() {
		return
	}
	x.mutex.Lock()
	defer x.mutex.Unlock()
	if !x.headed || x.told {
		return // What comes before the head of an answer is none.
	}
	x.told = true
	if x.limits.passed != "" {
		_ = x.client.conn.SetWriteDeadline(longAgo()) // Nothing may follow.
	}
}

// timeUp is the code of the limit that is over; empty while none is.
func (x *exchange) timeUp() string {
	if !x.limits.given() {
		return ""
	}
	x.mutex.Lock()
	defer x.mutex.Unlock()
	if x.left || !x.limits.pass(time.Now()) {
		return ""
	}
	return x.limits.passed
}

// noteHead notes that the head of an answer has come: from now on nothing is answered in its place.
func (x *exchange) noteHead() error {
	if !x.limits.given() {
		return nil
	}
	x.mutex.Lock()
	defer x.mutex.Unlock()
	if x.limits.passed != "" {
		return errTimeUp // Its link has been broken.
	}
	x.limits.try, x.headed = time.Time{}, true
	return nil
}

// settle notes that all of an answer has come: it was in time, and the client's connection stays.
func (x *exchange) settle() {
	if !x.limits.given() {
		return
	}
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.limits.lift()
	if x.limits.passed != "" {
		x.limits.passed, x.spoiled = "", true
		_ = x.client.conn.SetWriteDeadline(time.Time{}) // Writing will tell.
	}
}

// end takes the link from the exchange, whose time ends with that.
func (x *exchange) end() (l *link, spoiled bool) {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	l, x.link = x.link, nil
	x.limits.lift()
	return l, x.spoiled
}

// stopTime ends the timer: no request follows.
func (x *exchange) stopTime() {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.limits.lift()
	x.limits.stop()
}
