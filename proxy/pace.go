// SPDX-License-Identifier: Apache-2.0

package proxy

import "time"

// paceLook is how often somebody looks whether a client whose answer waits is still there.
const paceLook = 100 * time.Millisecond

// holdBack waits until content of an answer may be sent. It returns false when nobody waits for it any more.
func (x *exchange) holdBack(by *pace, bytes int) bool {
	wait := by.take(time.Now(), bytes)
	if wait <= 0 {
		return true
	}
	if x.client.writer.Flush() != nil { // What may go shall not wait.
		return false
	}
	for until := time.Now().Add(wait); ; {
		left := time.Until(until)
		if left <= 0 {
			return true
		}
		if x.gone() {
			return false
		}
		left = min(left, paceLook)
		if x.pacing == nil {
			x.pacing = time.NewTimer(left)
		} else {
			x.pacing.Reset(left)
		}
		<-x.pacing.C
	}
}

// held is what a client of HTTP/2 has taken of an answer, for which its endpoint gets no room yet.
type held struct {
	bytes int
	timer *time.Timer
}

// credit tells an endpoint that so much of its answer was taken, which it may send as much again for: at once or,
// where the answer is paced, when that is due.
func (x *stream) credit(at *attempt, n int) {
	if at.to.slot.pace == nil {
		at.up.Consumed(n)
		return
	}
	wait := at.to.slot.pace.take(time.Now(), n)
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.held.bytes += n
	if x.held.timer == nil {
		x.held.timer = time.AfterFunc(wait, func() { x.creditHeld(at) })
		return
	}
	x.held.timer.Reset(wait)
}

func (x *stream) creditHeld(at *attempt) {
	x.mutex.Lock()
	n := x.held.bytes
	x.held.bytes = 0
	x.mutex.Unlock()
	if n > 0 {
		at.up.Consumed(n)
	}
}
