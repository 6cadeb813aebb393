// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"errors"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// handleHeaders reads a block of fields and acts upon it: a request, an answer, or trailers.
func (c *Conn) handleHeaders(frame *h2.HeadersFrame) error {
	id, end := frame.StreamID, frame.StreamEnded()
	onItself := frame.HasPriority() && frame.Priority.StreamDep == id
	read, err := c.readBlock(frame)
	if err != nil {
		return err
	}
	c.idle.earn()
	s, fresh, err := c.streamOfHead(id)
	switch {
	case err != nil:
		return err
	case s == nil && !fresh: // It is over, or comes too late.
		return h2.StreamError{StreamID: id, Code: h2.ErrCodeStreamClosed}
	case onItself:
		return h2.StreamError{StreamID: id, Code: h2.ErrCodeProtocol}
	case s == nil:
		return h2.StreamError{StreamID: id, Code: h2.ErrCodeRefusedStream}
	case fresh:
		return c.told(s, c.handleRequest(s, read, end))
	case s.cameEnd:
		return h2.StreamError{StreamID: id, Code: h2.ErrCodeStreamClosed}
	case s.headed:
		return c.told(s, c.handleTrailers(s, read, end))
	}
	return c.told(s, c.handleResponse(s, read, end))
}

// told refuses the message when that is what is wrong.
func (c *Conn) told(s *Stream, err error) error {
	var why MalformedError
	if errors.As(err, &why) {
		return c.refuse(s, why)
	}
	return err
}

// streamOfHead returns the stream that a head belongs to. One that is fresh has just been opened; it is
// nil when there is no room for it.
func (c *Conn) streamOfHead(id uint32) (s *Stream, fresh bool, _ error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if !c.isServer() || id%2 == 0 || id <= c.lastID {
		s, err := c.known(id)
		return s, false, err
	}
	if c.left || c.closed != nil {
		return nil, true, nil // The peer has been told that it is not seen, or is not there any more.
	}
	c.lastID = id
	if len(c.streams) >= c.limits.MaxStreams {
		return nil, true, nil
	}
	return c.add(id), true, nil
}

// readBlock reads the fields that a frame begins with, and the frames that go on with them.
func (c *Conn) readBlock(frame *h2.HeadersFrame) (*block, error) {
	read := &block{}
	c.decoder.SetEmitEnabled(true)
	c.decoder.SetEmitFunc(func(f hpack.HeaderField) {
		if !read.add(f, c.limits) {
			c.decoder.SetEmitEnabled(false)
		}
	})
	fragment, ended := frame.HeaderBlockFragment(), frame.HeadersEnded()
	if !ended {
		if err := c.conn.SetReadDeadline(time.Now().Add(c.limits.HeadTime)); err != nil {
			return nil, err
		}
		defer c.conn.SetReadDeadline(time.Time{}) //nolint:errcheck // Reading will tell.
	}
	size := 0
	for frames := 1; ; frames++ {
		if size += len(fragment); size > c.limits.MaxHead || frames > fragmentsMost {
			return nil, connError{h2.ErrCodeEnhanceYourCalm, "a head without end"}
		}
		if _, err := c.decoder.Write(fragment); err != nil {
			return nil, connError{h2.ErrCodeCompression, "fields that cannot be decompressed"}
		}
		if ended {
			break
		}
		next, err := c.reader.ReadFrame()
		if err != nil {
			return nil, err
		}
		more, ok := next.(*h2.ContinuationFrame)
		if !ok {
			return nil, protocolError("a head is not continued")
		}
		fragment, ended = more.HeaderBlockFragment(), more.HeadersEnded()
	}
	if err := c.decoder.Close(); err != nil {
		return nil, connError{h2.ErrCodeCompression, "fields that cannot be decompressed"}
	}
	return read, nil
}

func (c *Conn) handleRequest(s *Stream, read *block, end bool) error {
	h, err := read.request()
	if err != nil {
		return err
	}
	s.headed, s.left = true, h.length
	if end {
		if why := s.account(0, true); why != "" {
			return why
		}
		c.endCame(s)
	}
	c.options.Request(s, h, end)
	return nil
}

func (c *Conn) handleResponse(s *Stream, read *block, end bool) error {
	h, err := read.response()
	if err != nil {
		return err
	}
	if h.Interim() {
		if end {
			return ErrInterim
		}
		s.receiver.Head(h, false)
		return nil
	}
	s.headed, s.left = true, h.length
	s.headless = s.headless || h.Status == 204 || h.Status == 304
	if h.Status == 204 && h.length > 0 {
		return ErrContent
	}
	if end {
		if why := s.account(0, true); why != "" {
			return why
		}
		c.endCame(s)
	}
	s.receiver.Head(h, end)
	return nil
}

func (c *Conn) handleTrailers(s *Stream, read *block, end bool) error {
	if !end {
		return ErrTrailer
	}
	fields, err := read.trailers()
	if err != nil {
		return err
	}
	if why := s.account(0, true); why != "" {
		return why
	}
	c.endCame(s)
	s.receiver.Head(&Head{Fields: fields}, true)
	return nil
}
