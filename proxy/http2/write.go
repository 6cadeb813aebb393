// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"net/http"
	"slices"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// written is what was written of a stream's data.
type written struct {
	receiver Receiver
	n        int
}

// write writes what there is until the connection ends.
func (c *Conn) write() {
	var buffer []byte
	var sent []written
	for {
		var last bool
		buffer, sent, last = c.gather(buffer[:0], sent[:0])
		if len(buffer) > 0 {
			if _, err := c.conn.Write(buffer); err != nil {
				c.failToWrite(err)
				last = true
			}
		}
		if last {
			c.close()
			return
		}
		for _, w := range sent {
			w.receiver.Sent(w.n)
		}
		if cap(buffer) > 2*writeMost {
			buffer = nil
		}
	}
}

// failToWrite ends the connection when the peer reads no more. What a server has said before may still
// be there to be read: answers, and which of the requests it has not seen.
func (c *Conn) failToWrite(err error) {
	c.fail(err)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.lingers = !c.isServer()
}

// close ends what is written, and then the connection, which ends the reader too. The peer has time to
// close it first: with bytes unread, or when more come, the kernel resets a connection that is closed,
// and what the peer has not got by then is lost: answers, and what it was told last.
func (c *Conn) close() {
	defer c.conn.Close() //nolint:errcheck // There is nobody left to tell.
	c.mutex.Lock()
	lingers := c.lingers
	c.mutex.Unlock()
	if !lingers {
		return
	}
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // Reading will tell.
	}
	patience := time.NewTimer(farewellTime)
	defer patience.Stop()
	select {
	case <-c.readEnds:
	case <-patience.C:
	}
}

// gather waits for something to write and takes it. last says that nothing follows.
func (c *Conn) gather(buffer []byte, sent []written) (_ []byte, _ []written, last bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for {
		if c.closed == nil {
			sent = c.frameData(sent)
		}
		if c.out.Len() > 0 || c.closed != nil {
			break
		}
		c.work.Wait()
	}
	buffer = append(buffer, c.out.Bytes()...)
	c.out.Reset()
	if c.closed == nil {
		c.written = c.nextID
	}
	return buffer, sent, c.closed != nil
}

// frameData frames queued data for as long as the windows allow it, each ready stream in its turn.
func (c *Conn) frameData(sent []written) []written {
	for len(c.ready) > 0 && c.out.Len() < writeMost {
		s := c.ready[0]
		c.ready = slices.Delete(c.ready, 0, 1)
		s.waits = false
		n := c.frameOne(s)
		if n > 0 && s.receiver != nil {
			sent = append(sent, written{s.receiver, n})
		}
		c.makeReady(s)
	}
	return sent
}

// frameOne frames what it can of a stream's queue, or its end, and returns how much data that was.
func (c *Conn) frameOne(s *Stream) int {
	if s.closed {
		return 0
	}
	n := int(min(int64(len(s.queue)), s.window, c.window, int64(c.frames)))
	n = max(n, 0)
	end := s.ends && n == len(s.queue) && s.trailers == nil
	if n > 0 || end {
		c.control(c.writer.WriteData(s.id, end, s.queue[:n]))
		s.queue = s.queue[n:]
		s.window -= int64(n)
		c.window -= int64(n)
	}
	switch {
	case end:
		c.endSent(s)
	case s.ends && len(s.queue) == 0:
		c.encodeAll(s.trailers)
		c.writeBlock(s, true)
	}
	return n
}

// makeReady lists a stream that has something to write, and the windows for it.
func (c *Conn) makeReady(s *Stream) {
	ending := s.ends && !s.sentEnd && len(s.queue) == 0
	if s.closed || s.waits || !ending && (len(s.queue) == 0 || s.window <= 0 || c.window <= 0) {
		return
	}
	s.waits = true
	c.ready = append(c.ready, s)
	c.work.Signal()
}

func (c *Conn) encode(f hpack.HeaderField) {
	c.control(c.encoder.WriteField(f))
}

func (c *Conn) encodeAll(fields []hpack.HeaderField) {
	for i := range fields {
		c.encode(fields[i])
	}
}

func (c *Conn) encodeRequest(h *Head) {
	c.encode(hpack.HeaderField{Name: ":method", Value: h.Method})
	if h.Method != http.MethodConnect {
		c.encode(hpack.HeaderField{Name: ":scheme", Value: h.Scheme})
		c.encode(hpack.HeaderField{Name: ":path", Value: h.Path})
	}
	if h.Authority != "" {
		c.encode(hpack.HeaderField{Name: ":authority", Value: h.Authority})
	}
	c.encodeAll(h.Fields)
}

// writeBlock writes the fields that were encoded.
func (c *Conn) writeBlock(s *Stream, end bool) {
	rest := c.encoded.Bytes()
	first := rest[:min(len(rest), c.frames)]
	rest = rest[len(first):]
	c.control(c.writer.WriteHeaders(h2.HeadersFrameParam{
		StreamID: s.id, BlockFragment: first, EndStream: end, EndHeaders: len(rest) == 0,
	}))
	for len(rest) > 0 {
		next := rest[:min(len(rest), c.frames)]
		rest = rest[len(next):]
		c.control(c.writer.WriteContinuation(s.id, len(rest) == 0, next))
	}
	c.encoded.Reset()
	if end {
		c.endSent(s)
	}
	c.work.Signal()
}
