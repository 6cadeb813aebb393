// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

var errTimeUp = errors.New("the time of the request is up")

// limits are when a request must have come how far. Whoever has them holds a mutex for all but moved,
// and has a timer call pass when one may be over.
type limits struct {
	timeouts mesh.Timeouts
	// request and try are when these are over; zero for never.
	request, try time.Time
	// sent says that the time without a byte counts, moved is when the last one went, in Unix nanoseconds.
	sent  bool
	moved atomic.Int64
	// passed is the code of the limit that is over; empty while none is.
	passed string
	timer  *time.Timer
	// fires is when the timer does; zero when it does not.
	fires time.Time
}

// given says that there are timeouts. They change only between requests, so it takes no mutex.
func (l *limits) given() bool { return l.timeouts != mesh.Timeouts{} }

// clear makes ready for another request. The timer stays: it finds nothing to do, or the next limit.
func (l *limits) clear() { l.timeouts, l.passed = mesh.Timeouts{}, ""; l.lift() }

// begin takes the timeouts of a request that has come.
func (l *limits) begin(timeouts mesh.Timeouts, received time.Time) {
	l.timeouts = timeouts
	l.request = after(received, timeouts.Request)
}

// beginTry begins another try.
func (l *limits) beginTry(now time.Time) { l.try, l.sent = after(now, l.timeouts.Try), false }

// send says that the request is being sent.
func (l *limits) send(now time.Time) {
	if l.timeouts.Idle > 0 {
		l.sent = true
		l.moved.Store(now.UnixNano())
	}
}

// lift ends all limits.
func (l *limits) lift() { l.request, l.try, l.sent = time.Time{}, time.Time{}, false }

// next is when the first limit is over, zero for never, and its code.
func (l *limits) next() (at time.Time, code string) {
	at, code = l.request, errorRequestTime
	if sooner(l.try, at) {
		at, code = l.try, errorTryTime
	}
	if l.sent {
		if idle := after(time.Unix(0, l.moved.Load()), l.timeouts.Idle); sooner(idle, at) {
			at, code = idle, errorIdleTime
		}
	}
	return at, code
}

// pass says that a limit is over.
func (l *limits) pass(now time.Time) bool {
	if l.passed == "" {
		if at, code := l.next(); !at.IsZero() && !now.Before(at) {
			l.passed = code
		}
	}
	return l.passed != ""
}

// arm has tick called when the next limit may be over.
func (l *limits) arm(now time.Time, tick func()) {
	at, _ := l.next()
	switch {
	case at.IsZero():
	case l.timer == nil:
		l.timer, l.fires = time.AfterFunc(at.Sub(now), tick), at
	case l.fires.IsZero() || at.Before(l.fires):
		l.timer.Reset(at.Sub(now))
		l.fires = at
	}
}

// stop ends the timer.
func (l *limits) stop() {
	if l.timer != nil {
		l.timer.Stop()
	}
}

func after(from time.Time, milliseconds uint32) time.Time {
	if milliseconds == 0 {
		return time.Time{}
	}
	return from.Add(time.Duration(milliseconds) * time.Millisecond)
}

// sooner says whether one time comes before another, where zero is never.
func sooner(one, other time.Time) bool {
	return !one.IsZero() && (other.IsZero() || one.Before(other))
}

// timeoutText is what a client is told.
func timeoutText(code string) string {
	switch code {
	case errorTryTime:
		return "no answer within the time of a try"
	case errorIdleTime:
		return "nothing was sent or answered for too long"
	}
	return "no answer within the time of the request"
}
