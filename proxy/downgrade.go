// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-mesh/sluice/proxy/http1"
	"github.com/sluice-mesh/sluice/proxy/http2"
)

// unwrittenMost is how much of an answer may be told before it was written to the client.
const unwrittenMost = 256 << 10

// interimMost is how many interim answers are told: they are in no window.
const interimMost = 64

var errAnswered = errors.New("the answer is complete")

// upward is the stream by which an attempt goes on to its endpoint.
type upward interface {
	SendData(data []byte, end bool)
	SendTrailers(fields []hpack.HeaderField)
	Consumed(n int)
	Reset(code h2.ErrCode)
}

// downgrade is an attempt over a link of HTTP/1.1. To its stream it looks like one over HTTP/2: what is
// sent is queued, which the window of the client's stream bounds; what comes back is read no faster
// than the client takes it.
type downgrade struct {
	attempt *attempt
	link    *link
	request *http2.Downgraded
	// whole says that the request ends with its head.
	whole bool

	mutex sync.Mutex
	// changed is told of everything below.
	changed  *sync.Cond
	queue    []byte
	ends     bool
	trailers []hpack.HeaderField
	// unwritten is how much of the answer the client has not been written yet.
	unwritten int
	// waits says that content may not be sent before the answer: it would be taken for a request.
	waits bool
	// left says that the client has gone, stopped that nothing is written any more.
	left, stopped bool
	// done says that whoever writes has ended, sent that all was written.
	done, sent bool
	// over says that the link may be somebody else's.
	over bool
}

func newDowngrade(a *attempt, l *link, request *http2.Downgraded, whole bool) *downgrade {
	d := &downgrade{attempt: a, link: l, request: request, whole: whole, done: whole, sent: whole, waits: request.Asked().Connect}
	d.changed = sync.NewCond(&d.mutex)
	return d
}

// SendData queues content.
func (d *downgrade) SendData(data []byte, end bool) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if !d.stopped && !d.ends {
		d.queue = append(d.queue, data...)
		d.ends = end
		d.changed.Broadcast()
	}
}

// SendTrailers queues what ends the content.
func (d *downgrade) SendTrailers(fields []hpack.HeaderField) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if !d.stopped && !d.ends {
		d.trailers, d.ends = fields, true
		d.changed.Broadcast()
	}
}

// Consumed says that as much of the answer was written to the client.
func (d *downgrade) Consumed(n int) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.unwritten -= n
	d.changed.Broadcast()
}

// Reset breaks off: nobody waits for the answer. HTTP/1.1 knows no other way than to end the connection.
func (d *downgrade) Reset(h2.ErrCode) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.left = true
	d.stop()
}

// stop ends whoever reads or writes.
func (d *downgrade) stop() {
	d.stopped, d.queue = true, nil
	if !d.over {
		_ = d.link.conn.SetDeadline(longAgo()) // What cannot be interrupted has ended.
	}
	d.changed.Broadcast()
}

// run sends the request and tells of the answer until both have ended.
func (d *downgrade) run() {
	d.link.beginAlone()
	d.mutex.Lock()
	if d.left {
		d.stop() // The link was not yet at hand.
	}
	d.mutex.Unlock()
	var writing sync.WaitGroup
	err := d.writeHead()
	if err == nil {
		if !d.whole {
			writing.Go(d.write)
		}
		err = d.read()
	}
	if err == nil {
		d.end(&writing)
		return
	}
	safely := d.sentAgainSafely(err)
	d.mutex.Lock()
	left := d.left
	d.stop()
	d.mutex.Unlock()
	writing.Wait()
	d.link.close()
	if !left {
		d.attempt.Ended(d.reason(err, safely))
	}
}

// sentAgainSafely says whether the endpoint has not begun with the request, or may get it twice.
func (d *downgrade) sentAgainSafely(err error) bool {
	l := d.link
	return l.sentAgainSafely(err) || l.reused() && l.unheard() && safeMethod(d.attempt.stream.head.Method)
}

// reason is an error as streams of HTTP/2 have it.
func (d *downgrade) reason(err error, safely bool) error {
	var malformed http1.Error
	switch {
	case safely:
		return fmt.Errorf("%w: %w", http2.ErrUnprocessed, err)
	case errors.As(err, &malformed):
		d.attempt.stream.proxy.metrics.malformed(malformed.Name(), outcomeRefused)
		return err
	}
	return fmt.Errorf("%w: %w", http2.ErrGone, err)
}

// end puts the link back after a whole answer, or closes it.
func (d *downgrade) end(writing *sync.WaitGroup) {
	sent := d.awaitSent()
	writing.Wait()
	if l := d.link; sent && l.usable() {
		d.attempt.stream.proxy.upstreams.pool.put(l, time.Now())
	} else {
		l.close()
	}
	d.attempt.Ended(errAnswered) // The rest of the request is of no interest.
}

// awaitSent says whether all of the request was written. What has come of it may take a moment; what
// has not is not waited for. From then on nobody touches the link.
func (d *downgrade) awaitSent() bool {
	timer := time.AfterFunc(pumpTime, d.giveUpSending)
	defer timer.Stop()
	d.mutex.Lock()
	defer d.mutex.Unlock()
	for d.ends && !d.done && !d.stopped {
		d.changed.Wait()
	}
	if !d.sent {
		d.stop()
	}
	d.over = true
	return d.sent && !d.stopped
}

func (d *downgrade) giveUpSending() {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if !d.sent {
		d.stop()
	}
}

func (d *downgrade) writeHead() error {
	w := d.link.writer
	d.request.WriteHead(w, d.link.single)
	if err := w.Flush(); err != nil {
		return &http1.WriteError{Err: err}
	}
	return nil
}

// write writes what is queued until it ends.
func (d *downgrade) write() {
	sent := d.writeAll()
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.done, d.sent = true, sent
	d.changed.Broadcast()
}

// writeAll returns false when it has not written all. Who does not take it has mostly answered already,
// which whoever reads will see.
func (d *downgrade) writeAll() bool {
	w := d.link.writer
	var content []byte
	for {
		var ends, ok bool
		if content, ends, ok = d.next(content); !ok {
			return false
		}
		_ = w.Content(content) // Flushing will tell.
		if ends {
			d.request.WriteEnd(w, d.trailers)
		}
		if w.Flush() != nil {
			return false
		}
		if len(content) > 0 {
			d.attempt.Sent(len(content))
		}
		if ends {
			return !d.request.Asked().Connect || d.link.conn.CloseWrite() == nil
		}
	}
}

// next waits for what is to be written, in exchange for what was.
func (d *downgrade) next(written []byte) (content []byte, ends, ok bool) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	for !d.stopped && (d.waits || len(d.queue) == 0 && !d.ends) {
		d.changed.Wait()
	}
	if d.stopped {
		return nil, false, false
	}
	content, d.queue = d.queue, written[:0]
	return content, d.ends, true
}

// read reads the answer and tells of it.
func (d *downgrade) read() error {
	l, a := d.link, d.attempt
	for interim := 0; ; interim++ {
		if err := l.reader.ReadResponse(&l.response, d.request.Asked()); err != nil {
			return err
		}
		head, err := http2.FromHTTP1(&l.response)
		if err != nil {
			return err
		}
		switch {
		case l.response.Framing() == http1.Tunnel:
			a.Head(head, false)
			return d.tunnel()
		case !l.response.Interim():
			a.Head(head, l.reader.Ended())
			return d.readContent()
		case interim < interimMost && (l.response.Status() != 100 || d.request.ExpectsContinue()):
			a.Head(head, false)
		}
	}
}

func (d *downgrade) readContent() error {
	l, a := d.link, d.attempt
	for !l.reader.Ended() {
		if !d.hasRoom() {
			return errClientLeft
		}
		data, err := l.reader.Next()
		if errors.Is(err, io.EOF) {
			if trailers := http2.TrailersFromHTTP1(l.reader); len(trailers) > 0 {
				a.Head(&http2.Head{Fields: trailers}, true)
			} else {
				a.Data(nil, true)
			}
			return nil
		}
		if err != nil {
			return err
		}
		d.tell(data, l.reader.Ended())
	}
	return nil
}

// tell tells of content of the answer.
func (d *downgrade) tell(data []byte, end bool) {
	d.mutex.Lock()
	d.unwritten += len(data)
	d.mutex.Unlock()
	d.attempt.Data(data, end)
}

// hasRoom waits until the client has taken enough of the answer. It returns false when it has left.
func (d *downgrade) hasRoom() bool {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	for !d.left && d.unwritten >= unwrittenMost {
		d.changed.Wait()
	}
	return !d.left
}

// tunnel carries bytes both ways until both sides have ended theirs.
func (d *downgrade) tunnel() error {
	d.mutex.Lock()
	d.waits = false
	d.changed.Broadcast()
	d.mutex.Unlock()
	buffer, put := d.attempt.stream.proxy.buffers.get()
	defer put()
	// What was read ahead belongs to what follows.
	from := io.MultiReader(bytes.NewReader(d.link.reader.Unread()), d.link.conn)
	for d.hasRoom() {
		n, err := from.Read(buffer)
		if n > 0 {
			d.tell(buffer[:n], false)
		}
		if errors.Is(err, io.EOF) {
			d.attempt.Data(nil, true)
			d.awaitDone()
			return nil
		}
		if err != nil {
			return err
		}
	}
	return errClientLeft
}

// awaitDone waits until the client has ended its side, and that was passed on.
func (d *downgrade) awaitDone() {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	for !d.done && !d.stopped {
		d.changed.Wait()
	}
}
