// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"strconv"
	"sync"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// creditLeast is how much of a stream is passed on before its sender is told.
const creditLeast = streamWindow / 4

// Stream is one request and its answer. What is sent on one that has ended is dropped.
type Stream struct {
	conn  *Conn
	id    uint32
	ended sync.Once

	// The connection's mutex guards these.
	receiver Receiver
	// window is what may be sent, received what may come, credit what was passed on and not told yet.
	window, received, credit int64
	queue                    []byte
	// waits says that it is among the ready.
	waits bool
	// ends says that nothing follows the queue but trailers, sentEnd that the end was written,
	// cameEnd that the peer's has come.
	ends, sentEnd, cameEnd bool
	trailers               []hpack.HeaderField
	// resets says that the stream is to be reset when all was written.
	resets, closed bool

	// The reader's: headed says that a final head has come, headless that no content follows it, left
	// how much content its length promises still.
	headed, headless bool
	left             int64
}

// Receive says who is told what comes on the stream.
func (s *Stream) Receive(receiver Receiver) {
	s.conn.mutex.Lock()
	defer s.conn.mutex.Unlock()
	s.receiver = receiver
}

// SendHead sends the head of an answer.
func (s *Stream) SendHead(h *Head, end bool) {
	c := s.conn
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if s.closed || s.ends {
		return
	}
	c.encode(hpack.HeaderField{Name: ":status", Value: strconv.Itoa(h.Status)})
	c.encodeAll(h.Fields)
	c.writeBlock(s, end)
}

// SendData queues content, of which it keeps a copy.
func (s *Stream) SendData(data []byte, end bool) {
	c := s.conn
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if s.closed || s.ends {
		return
	}
	s.queue = append(s.queue, data...)
	s.ends = end
	c.makeReady(s)
}

// SendTrailers queues the fields after the content, with which the stream ends.
func (s *Stream) SendTrailers(fields []hpack.HeaderField) {
	c := s.conn
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if s.closed || s.ends {
		return
	}
	s.trailers, s.ends = fields, true
	c.makeReady(s)
}

// Consumed allows the peer to send as much more.
func (s *Stream) Consumed(n int) {
	c := s.conn
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if s.closed || s.cameEnd {
		return
	}
	if s.credit += int64(n); s.credit >= creditLeast {
		c.control(c.writer.WriteWindowUpdate(s.id, uint32(s.credit)))
		s.received += s.credit
		s.credit = 0
		c.work.Signal()
	}
}

// Reset breaks the stream off. Without an error it does so when all that was queued has been written.
func (s *Stream) Reset(code h2.ErrCode) {
	c := s.conn
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if s.closed {
		return
	}
	if code == h2.ErrCodeNo && s.ends && !s.sentEnd {
		s.resets = true
		return
	}
	c.reset(s, code)
}

func (c *Conn) reset(s *Stream, code h2.ErrCode) {
	c.control(c.writer.WriteRSTStream(s.id, code))
	c.remove(s)
	c.work.Signal()
}

// endSent notes that the end of what is sent was written.
func (c *Conn) endSent(s *Stream) {
	s.ends, s.sentEnd = true, true
	switch {
	case s.cameEnd:
		c.remove(s)
	case s.resets:
		c.reset(s, h2.ErrCodeNo)
	}
}

// endCame notes that the peer's end has come.
func (c *Conn) endCame(s *Stream) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	s.cameEnd = true
	if s.sentEnd {
		c.remove(s)
	}
}

// tellEnd tells the receiver, once, that nothing follows.
func (s *Stream) tellEnd(err error) {
	s.conn.mutex.Lock()
	receiver := s.receiver
	s.conn.mutex.Unlock()
	if receiver != nil {
		s.ended.Do(func() { receiver.Ended(err) })
	}
}
