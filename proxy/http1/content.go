// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"errors"
	"io"
)

// content is how far the content of a message was read.
type content struct {
	framing Framing
	// remaining is what is left of the length or the chunk.
	remaining int64
	// chunks says that a chunk was read, whose end is still to come.
	chunks bool
	ended  bool
	// trailers are the fields after the last chunk, with offsets from the message's first byte.
	trailers []field
	tail     []byte
}

func (c *content) begin(h *head) {
	kept := c.trailers[:0]
	*c = content{framing: h.framing, trailers: kept}
	switch h.framing {
	case ByLength:
		c.remaining = h.contentLength
		c.ended = c.remaining == 0
	case NoContent, Tunnel:
		c.ended = true
	}
}

// Ended says that all content of the message was read.
func (r *Reader) Ended() bool { return r.content.ended }

// Whole says that Next will not have to wait for any of the content that is left.
func (r *Reader) Whole() bool {
	return r.content.ended || r.content.framing == ByLength && int64(r.Buffered()) >= r.content.remaining
}

// Next returns the next content of the message, which is valid until the reader is used again, and
// a bare io.EOF after all of it.
func (r *Reader) Next() ([]byte, error) {
	if r.content.ended {
		return nil, io.EOF
	}
	switch r.content.framing {
	case ByLength:
		data, err := r.take()
		r.content.ended = err == nil && r.content.remaining == 0
		return data, err
	case ByChunks:
		return r.nextOfChunks()
	}
	if r.next == r.end {
		if err := r.refill(); err != nil {
			r.content.ended = errors.Is(err, io.EOF)
			return nil, err
		}
	}
	data := r.buffer[r.next:r.end]
	r.next, r.searched = r.end, r.end
	return data, nil
}

// take returns what there is of the remaining bytes, and waits for some if there is nothing.
func (r *Reader) take() ([]byte, error) {
	if r.next == r.end {
		if err := r.refill(); err != nil {
			return nil, unexpected(err)
		}
	}
	n := int(min(int64(r.end-r.next), r.content.remaining))
	data := r.buffer[r.next : r.next+n]
	r.next += n
	r.searched = r.next
	r.content.remaining -= int64(n)
	return data, nil
}

// refill reads more content over that which was handed out. When much comes at once it takes a
// large buffer.
func (r *Reader) refill() error {
	if !r.pinned && r.end == len(r.buffer) && len(r.buffer) == smallBuffer {
		old := r.buffer
		r.moveTo(r.buffers.get(largeBuffer))
		r.buffers.put(old)
	}
	if r.next == r.end {
		r.next, r.end, r.searched = r.kept, r.kept, r.kept
	}
	return r.fill()
}
