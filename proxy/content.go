// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"io"
	"time"
)

// pumpTime is how long a copy of content that has come may still be writing when it was answered.
const pumpTime = 50 * time.Millisecond

// takeContent takes the request's content if it is there, which is where it can be sent from again
// and again, or prepares to send it as it comes.
func (x *exchange) takeContent() {
	reader := x.client.reader
	reader.MakeRoom() // Nothing moves from here on.
	if reader.Whole() {
		// All that is left comes in one piece.
		x.content, _ = reader.Next() // There is nothing to wait for, and so to fail.
		x.record.came(len(x.content))
		return
	}
	// Content may come at its own pace, however slow.
	x.client.deadline = time.Time{}
	_ = x.client.conn.SetReadDeadline(time.Time{}) // Reading will tell.
	reader.Pin()
	x.body = newReplayBody(&contentReader{reader: reader, record: x.record})
}

// replayable says whether the content can be sent from its start.
func (x *exchange) replayable() bool { return x.body.replayable() }

// beginPump has the content sent on a link as it comes.
func (x *exchange) beginPump(l *link, content io.Reader) {
	x.pumping.Add(1)
	x.pumps.Go(func() {
		defer x.pumping.Add(-1)
		x.pump(l, content)
	})
}

// pump sends content as it comes until it ends or the link does.
func (x *exchange) pump(l *link, content io.Reader) {
	buffer, put := x.proxy.buffers.get()
	defer put()
	for {
		n, err := content.Read(buffer)
		if n > 0 && (l.writer.Content(buffer[:n]) != nil || l.writer.Flush() != nil) {
			return // Whoever waits for the answer sees it, too.
		}
		switch {
		case errors.Is(err, io.EOF):
			l.writer.EndContent(x.client.reader)
			_ = l.writer.Flush() // As above.
			return
		case errors.Is(err, errBodyGone), isTimeout(err):
			return
		case err != nil:
			x.lose(err)
			return
		}
	}
}

// hasCome says that all of the content has come.
func (x *exchange) hasCome() bool { return x.body == nil || x.body.complete.Load() }

// endContent ends the copies of the content. What has not come before the answer is not waited for.
// It returns false when a copy had to be stopped, so that its link cannot be used again.
func (x *exchange) endContent() bool {
	if x.body == nil {
		return true
	}
	done := make(chan struct{})
	go func() {
		x.pumps.Wait()
		close(done)
	}()
	if x.hasCome() {
		timer := time.NewTimer(pumpTime)
		defer timer.Stop()
		select {
		case <-done:
			return true
		case <-timer.C:
		}
	}
	interrupt(x.client.conn)
	x.mutex.Lock()
	if x.link != nil {
		_ = x.link.conn.SetWriteDeadline(longAgo()) // It may write to a server that does not read.
	}
	x.mutex.Unlock()
	<-done
	_ = x.client.conn.SetReadDeadline(time.Time{}) // Reading will tell.
	return false
}

// use makes a link the one that ends when the client leaves; it returns false if it has left.
func (x *exchange) use(l *link) bool {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.link = l
	x.left = x.left || x.proxy.clients.cut.Load()
	if x.limits.timeouts.Idle > 0 {
		now := time.Now()
		x.limits.send(now)
		x.limits.arm(now, x.tick)
	}
	return !x.left && x.limits.passed == ""
}

// drop closes a link.
func (x *exchange) drop(l *link) {
	x.unlink()
	l.close()
}

func (x *exchange) unlink() {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	x.link = nil
}

// gone says that there is nobody to answer, nothing more to send or no time left.
func (x *exchange) gone() bool {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	return x.left || x.limits.passed != ""
}

// hasLeft says that there is nobody to answer, or nothing more to send.
func (x *exchange) hasLeft() bool {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	return x.left
}

// lose ends the attempt at hand: the client has left or sent what cannot be sent on.
func (x *exchange) lose(err error) {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	if x.left {
		return
	}
	x.left, x.broken = true, err
	if x.link != nil {
		_ = x.link.conn.SetDeadline(longAgo()) // A server may neither read nor answer.
	}
}

// isSlow is called when an answer is long in coming. It begins to look after the client, whose
// leaving would otherwise be seen when it is answered, and returns false when it has left.
func (x *exchange) isSlow(l *link) bool {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	if x.left || x.limits.passed != "" {
		return false
	}
	if x.pumping.Load() > 0 { // Somebody reads from the client, for as long as there is something.
		l.deadline = time.Now().Add(pumpPatience)
		_ = l.conn.SetReadDeadline(l.deadline) // Reading will tell.
		return true
	}
	l.deadline = time.Time{}
	_ = l.conn.SetReadDeadline(time.Time{}) // As above.
	if x.watching != nil || x.client.reader.Buffered() > 0 {
		return true // Somebody looks, or the client has sent another request.
	}
	x.client.deadline = time.Time{}
	_ = x.client.conn.SetReadDeadline(time.Time{}) // As above.
	done := make(chan struct{})
	x.watching = done
	go func() {
		defer close(done)
		if err := x.client.reader.Await(); err != nil && !isTimeout(err) {
			x.lose(errClientLeft)
		}
	}()
	return true
}

// stopWatching ends the look after the client: the connection is read for the next request.
func (x *exchange) stopWatching() {
	if x.watching == nil {
		return
	}
	interrupt(x.client.conn)
	<-x.watching
	_ = x.client.conn.SetReadDeadline(time.Time{}) // Reading will tell.
}
