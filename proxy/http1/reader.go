// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"bytes"
	"errors"
	"io"
)

// Rules are what a reader demands. Zero values mean the defaults.
type Rules struct {
	// MaxHead is the most bytes of a head, and of the trailers after content. 64 KiB by default.
	MaxHead int
	// MaxFields is the most fields of a head. 256 by default.
	MaxFields int
	// Audit lets pass what is wrong but can be read in one way only, and notes it: see
	// Request.Findings. What two recipients could read differently is refused all the same.
	Audit bool
}

// Defaults of Rules.
const (
	DefaultMaxHead   = 64 << 10
	DefaultMaxFields = 256
)

func (r Rules) withDefaults() Rules {
	if r.MaxHead <= 0 {
		r.MaxHead = DefaultMaxHead
	}
	if r.MaxFields <= 0 {
		r.MaxFields = DefaultMaxFields
	}
	return r
}

// Reader reads the messages of one direction of a connection through one buffer, which it has only
// while it holds something. It is not for concurrent use.
type Reader struct {
	source  io.Reader
	buffers *Buffers
	rules   Rules
	// before is flushed before the source is waited for.
	before *Writer

	buffer []byte
	// The buffer holds, in this order: what is no longer needed; the head at hand, from message to
	// kept; content that was handed out, up to next; what is not yet read, up to end.
	message, kept, next, end int
	// searched is up to where the end of a line was looked for in vain.
	searched int
	// failed is what the source said together with the last bytes that it gave.
	failed error

	// head is that of the message whose content is being read. When it is pinned, it stays where it is.
	head    *head
	pinned  bool
	content content
}

// NewReader returns a reader of a connection.
func NewReader(source io.Reader, buffers *Buffers, rules Rules) *Reader {
	return &Reader{source: source, buffers: buffers, rules: rules.withDefaults()}
}

// FlushBeforeRead makes the reader flush a writer whenever it has to wait for its source, so that
// what was read so far is never held back; nil ends it.
func (r *Reader) FlushBeforeRead(writer *Writer) { r.before = writer }

// Buffered is how much was read from the source and not yet handed out.
func (r *Reader) Buffered() int { return r.end - r.next }

// Unread copies what was read from the source and not yet handed out, and forgets it.
func (r *Reader) Unread() []byte {
	unread := bytes.Clone(r.buffer[r.next:r.end])
	r.Release()
	return unread
}

// Release gives the buffer back with all that is in it. The message that was read last is gone.
func (r *Reader) Release() {
	if r.buffer != nil {
		r.buffers.put(r.buffer)
	}
	if r.head != nil {
		r.head.data, r.head = nil, nil
	}
	r.buffer, r.pinned = nil, false
	r.message, r.kept, r.next, r.end, r.searched = 0, 0, 0, 0, 0
}

// Forget lets go of the message that was read last and keeps the buffer, when nothing is in it that was
// not handed out.
func (r *Reader) Forget() {
	if r.next < r.end {
		return
	}
	if r.head != nil {
		r.head.data, r.head = nil, nil
	}
	r.pinned = false
	r.message, r.kept, r.next, r.end, r.searched = 0, 0, 0, 0, 0
}

// MakeRoom makes sure that Await moves nothing.
func (r *Reader) MakeRoom() {
	if r.end == len(r.buffer) {
		r.makeRoom()
	}
}

// Await waits until there is something to read or the connection has ended. Between messages and
// after MakeRoom it may run beside whoever still uses the message that was read last.
func (r *Reader) Await() error {
	if r.next < r.end {
		return nil
	}
	return r.fill()
}

// fill reads at least one byte from the source.
func (r *Reader) fill() error {
	if r.failed != nil {
		return r.failed
	}
	if r.before != nil {
		if err := r.before.Flush(); err != nil {
			return &WriteError{err}
		}
	}
	if r.end == len(r.buffer) {
		if r.pinned {
			r.closeGap()
		} else {
			r.makeRoom()
		}
		if r.end == len(r.buffer) {
			return ErrHeadLarge // Pinned, with trailers that do not fit behind the head.
		}
	}
	n, err := r.source.Read(r.buffer[r.end:])
	r.end += n
	if n > 0 {
		r.failed = err
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// Pin keeps the message at hand where it is in memory until the next is read, so that its head may be
// looked at while somebody else reads its content.
func (r *Reader) Pin() {
	if space := len(r.buffer) - r.kept; space < smallBuffer {
		old := r.buffer
		r.moveTo(r.buffers.get(max(largeBuffer, r.end-r.message+largeBuffer/2)))
		r.buffers.put(old)
	}
	r.pinned = true
}

// makeRoom moves what is still needed to the front, and to a larger buffer if that is not enough.
func (r *Reader) makeRoom() {
	r.moveTo(r.buffer)
	if len(r.buffer)-r.end >= smallBuffer/4 {
		return
	}
	larger := r.buffers.get(max(smallBuffer, 2*len(r.buffer)))
	old := r.buffer
	r.moveTo(larger)
	if old != nil {
		r.buffers.put(old)
	}
}

// closeGap moves what is not yet read behind the head.
func (r *Reader) closeGap() {
	r.searched = max(r.kept, r.kept+r.searched-r.next)
	r.end = r.kept + copy(r.buffer[r.kept:], r.buffer[r.next:r.end])
	r.next = r.kept
}

// moveTo moves the head and what is not yet read to the front of a buffer, which may be the same.
func (r *Reader) moveTo(buffer []byte) {
	head := copy(buffer, r.buffer[r.message:r.kept])
	unread := copy(buffer[head:], r.buffer[r.next:r.end])
	r.searched = max(head, head+r.searched-r.next)
	r.buffer = buffer
	r.message, r.kept, r.next, r.end = 0, head, head, head+unread
	if r.head != nil {
		r.head.data = buffer[:head]
	}
}

// line returns the next line without its end, which must be CRLF, as offsets from the message's
// first byte. It must be shorter than the limit.
func (r *Reader) line(limit int, tooLong Error) (span, error) {
	for {
		if i := bytes.IndexByte(r.buffer[r.searched:r.end], '\n'); i >= 0 {
			at := r.searched + i
			switch {
			case at-r.next >= limit:
				return span{}, tooLong
			case at == r.next || r.buffer[at-1] != '\r':
				return span{}, ErrBareLF
			}
			line := span{uint32(r.next - r.message), uint32(at - 1 - r.message)}
			r.next, r.searched = at+1, at+1
			return line, nil
		}
		r.searched = r.end
		if r.end-r.next >= limit {
			return span{}, tooLong
		}
		if err := r.fill(); err != nil {
			return span{}, unexpected(err)
		}
	}
}

// unexpected is for ends within a message.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// begin makes ready for the next message.
func (r *Reader) begin(h *head) error {
	r.head, r.pinned = nil, false
	r.message, r.kept, r.searched = r.next, r.next, r.next
	r.content = content{ended: true, trailers: r.content.trailers[:0]}
	if r.next == r.end {
		r.message, r.kept, r.next, r.end, r.searched = 0, 0, 0, 0, 0
		if err := r.fill(); err != nil {
			return err // A bare EOF between messages is an end in good order.
		}
	}
	h.reset()
	r.head = h
	return nil
}

// headLine returns the next line of a head or of trailers, which begin at an offset from the
// message, and keeps what was read before it.
func (r *Reader) headLine(from int, tooLong Error) (span, error) {
	r.kept = r.next
	return r.line(r.rules.MaxHead-(r.next-r.message-from), tooLong)
}

// fieldLines reads the field lines of a head up to the empty one.
func (r *Reader) fieldLines(h *head) error {
	for {
		line, err := r.headLine(0, ErrHeadLarge)
		if err != nil {
			return err
		}
		data := r.buffer[r.message:r.next]
		if line.empty() {
			r.kept = r.next
			h.data = data
			return nil
		}
		if err := h.addLine(data, line, r.rules); err != nil {
			return err
		}
	}
}
