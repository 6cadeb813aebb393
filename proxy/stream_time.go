// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/http"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-mesh/sluice/proxy/http2"
)

// next chooses where the next try goes, and begins its time.
func (x *stream) next() (*hop, bool) {
	x.beginTry()
	return x.choose.next()
}

func (x *stream) beginTry() {
	if x.limits.given() {
		now := time.Now()
		x.mutex.Lock()
		x.limits.beginTry(now)
		x.limits.arm(now, x.lookAtTime)
		x.mutex.Unlock()
	}
}

// noteSent notes that the request is being sent; noteHead that the head of its answer has come. The mutex
// is held.
func (x *stream) noteSent() {
	if x.limits.given() {
		now := time.Now()
		x.limits.send(now)
		x.limits.arm(now, x.lookAtTime)
	}
}

func (x *stream) noteHead(h *http2.Head) {
	x.noteMoved()
	x.limits.try = time.Time{}
	if x.head.Method == http.MethodConnect && h.Status/100 == 2 {
		x.limits.request = time.Time{}
	}
}

// noteMoved notes that bytes have come or gone.
func (x *stream) noteMoved() {
	if x.limits.timeouts.Idle > 0 {
		x.limits.moved.Store(time.Now().UnixNano())
	}
}

// timeUp is the code of the limit that is over; empty while none is.
func (x *stream) timeUp() string {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	return x.limits.passed
}

// lookAtTime is called by the timer. When the time is up nothing of an answer that comes is told any
// more, so that there are never two.
func (x *stream) lookAtTime() {
	at, passed := x.passTime(time.Now())
	if !passed {
		return
	}
	x.cancel()
	if at == nil {
		return // Whoever looks for a way sees it.
	}
	x.proxy.log.Info("gave a request up", "to", at.to.address, "method", x.head.Method, "error", x.limits.passed)
	at.up.Reset(h2.ErrCodeCancel)
	at.finish(x.limits.passed, false)
	defer x.record.end()
	switch {
	case !at.told:
		x.problem(http.StatusGatewayTimeout, x.limits.passed, timeoutText(x.limits.passed))
	case x.isGRPC():
		x.down.SendTrailers([]hpack.HeaderField{
			{Name: "grpc-status", Value: grpcDeadline},
			{Name: "grpc-message", Value: "sluice: " + timeoutText(x.limits.passed)},
		})
		x.down.Reset(h2.ErrCodeNo)
	default:
		x.down.Reset(h2.ErrCodeInternal)
	}
}

// passTime says whether the time is up, and with which attempt.
func (x *stream) passTime(now time.Time) (at *attempt, passed bool) {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.limits.fires = time.Time{}
	if x.over || x.counted || x.at != nil && x.at.complete {
		return nil, false
	}
	if !x.limits.pass(now) {
		x.limits.arm(now, x.lookAtTime)
		return nil, false
	}
	x.over = true
	return x.at, true
}
