// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"fmt"
	"io"
	"strconv"
)

// WriteError is a writer's error that came up while something was read for it.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return fmt.Sprintf("write: %v", e.Err) }

// Unwrap returns what the connection said.
func (e *WriteError) Unwrap() error { return e.Err }

// Writer writes messages to one direction of a connection. It gathers what belongs together, so that
// a head and the content that is there leave at once, and has a buffer only while it holds
// something. It is not for concurrent use.
type Writer struct {
	to      io.Writer
	buffers *Buffers
	buffer  []byte
	framing Framing
	failed  error
}

// NewWriter returns a writer to a connection.
func NewWriter(to io.Writer, buffers *Buffers) *Writer { return &Writer{to: to, buffers: buffers} }

// Sending says how a message is sent on. What its fields say of the connection it came by is left
// out anyway.
type Sending struct {
	// Skip are fields that are left out.
	Skip Kinds
	// Host is the host of a request that has none.
	Host string
	// Close says that the connection ends after the message.
	Close bool
	// KeepAlive says so to a client of HTTP/1.0 that has asked for the contrary.
	KeepAlive bool
	// Framing is that of a response's content: as it came, or ByChunks or UntilClose for content
	// whose length is not known.
	Framing Framing
}

// Request begins a request. Field adds to it, EndHead ends its head.
func (w *Writer) Request(r *Request, how Sending) {
	w.reserve(len(r.data) + len(how.Host) + 64)
	w.framing = r.framing
	out := append(w.buffer, r.Method()...)
	out = append(out, ' ')
	out = append(out, r.Target()...)
	out = append(out, " HTTP/1.1\r\nHost: "...)
	if host := r.Host(); len(host) > 0 || r.hosts > 0 {
		out = append(out, host...)
	} else {
		out = append(out, how.Host...)
	}
	out = append(out, "\r\n"...)
	out = r.appendFields(out, r.fields, how.Skip, r.framing)
	if r.expects {
		out = append(out, "Expect: 100-continue\r\n"...)
	}
	out = r.appendConnection(out, how, r.upgrade)
	if r.trailers && !r.upgrade {
		out = append(out, "Connection: TE\r\nTE: trailers\r\n"...)
	}
	w.buffer = r.appendFraming(out, r.framing)
}

// Response begins a response. Field adds to it, EndHead ends its head.
func (w *Writer) Response(r *Response, how Sending) {
	w.reserve(len(r.data) + 64)
	w.framing = how.Framing
	out := append(w.buffer, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(r.status), 10)
	out = append(out, ' ')
	out = append(out, r.reason.of(r.data)...)
	out = append(out, "\r\n"...)
	out = r.appendFields(out, r.fields, how.Skip, how.Framing)
	out = r.appendConnection(out, how, r.status == 101)
	if how.Framing == NoContent && r.lengths == 1 && (r.asked.Head || r.status == 304) {
		// What a GET would have had.
		out = appendLength(out, r.contentLength)
	}
	w.buffer = r.appendFraming(out, how.Framing)
}

// RequestLine begins a request that has come as something else than HTTP/1.1. Field adds to it, its
// framing as well; EndHead ends its head. CheckLine and IsHost say what it may be given.
func (w *Writer) RequestLine(method, target, host string, framing Framing) {
	w.reserve(len(method) + len(target) + len(host) + 32)
	w.framing = framing
	w.buffer = append(w.buffer, method...)
	w.buffer = append(w.buffer, ' ')
	w.buffer = append(w.buffer, target...)
	w.buffer = append(w.buffer, " HTTP/1.1\r\n"...)
	w.buffer = appendField(w.buffer, "Host", host)
}

// Status begins a response of the proxy's own.
func (w *Writer) Status(status int, reason string, framing Framing) {
	w.reserve(256)
	w.framing = framing
	w.buffer = append(w.buffer, "HTTP/1.1 "...)
	w.buffer = strconv.AppendInt(w.buffer, int64(status), 10)
	w.buffer = append(w.buffer, ' ')
	w.buffer = append(w.buffer, reason...)
	w.buffer = append(w.buffer, "\r\n"...)
}

// Field adds a field to the head that was begun, or a trailer after the last chunk.
func (w *Writer) Field(name, value string) {
	w.reserve(len(name) + len(value) + 4)
	w.buffer = appendField(w.buffer, name, value)
}

// EndHead ends the head that was begun.
func (w *Writer) EndHead() {
	w.reserve(2)
	w.buffer = append(w.buffer, "\r\n"...)
}

// Content adds content. It keeps what is small until Flush.
func (w *Writer) Content(data []byte) error {
	if len(data) == 0 {
		return nil // An empty chunk would be the last.
	}
	if w.framing != ByChunks {
		return w.add(data)
	}
	if len(w.buffer) > largeBuffer/2 {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	w.reserve(20)
	w.buffer = strconv.AppendUint(w.buffer, uint64(len(data)), 16)
	w.buffer = append(w.buffer, "\r\n"...)
	if err := w.add(data); err != nil {
		return err
	}
	w.reserve(2)
	w.buffer = append(w.buffer, "\r\n"...)
	return nil
}

// add adds bytes, through the buffer unless they are too many for it.
func (w *Writer) add(data []byte) error {
	const end = len("\r\n") // That of a chunk fits, too.
	if pending := len(w.buffer); pending > 0 && pending+len(data)+end <= largeBuffer || pending == 0 && len(data) <= smallBuffer/2 {
		w.reserve(len(data) + end)
		w.buffer = append(w.buffer, data...)
		return w.failed
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, w.failed = w.to.Write(data)
	return w.failed
}

// EndContent ends content, with the trailers that came after it.
func (w *Writer) EndContent(from *Reader) {
	if w.framing != ByChunks {
		return
	}
	w.LastChunk()
	if from != nil && len(from.content.trailers) > 0 {
		w.reserve(len(from.content.tail))
		tail := head{data: from.content.tail}
		w.buffer = tail.appendFields(w.buffer, from.content.trailers, Owned, ByChunks)
	}
	w.EndHead()
}

// LastChunk ends content in chunks. Field adds trailers, EndHead ends them.
func (w *Writer) LastChunk() {
	w.reserve(8)
	w.buffer = append(w.buffer, "0\r\n"...)
}

// Pending is how much is gathered and not yet written.
func (w *Writer) Pending() int { return len(w.buffer) }

// Discard forgets what is gathered.
func (w *Writer) Discard() {
	if w.buffer != nil {
		w.buffers.put(w.buffer)
		w.buffer = nil
	}
}

// Flush writes what is gathered.
func (w *Writer) Flush() error {
	if len(w.buffer) > 0 && w.failed == nil {
		_, w.failed = w.to.Write(w.buffer)
	}
	w.Discard()
	return w.failed
}

// reserve makes room for more bytes.
func (w *Writer) reserve(n int) {
	if w.buffer == nil {
		w.buffer = w.buffers.get(n)[:0]
		return
	}
	if len(w.buffer)+n <= cap(w.buffer) {
		return
	}
	larger := append(w.buffers.get(len(w.buffer) + n)[:0], w.buffer...)
	w.buffers.put(w.buffer)
	w.buffer = larger
}

// appendFields writes fields that go beyond the connection.
func (h *head) appendFields(out []byte, fields []field, skip Kinds, framing Framing) []byte {
	skip |= hop
	if framing == ByChunks {
		skip &^= Of(KindTrailer) // The names of trailers, where there may be some.
	}
	if h.findings.Has(ErrExpect) {
		skip &^= Of(KindExpect) // The server will know.
	}
	for i := range fields {
		f := &fields[i]
		if f.dropped || skip.has(f.kind) {
			continue
		}
		out = append(out, f.name.of(h.data)...)
		out = append(out, ": "...)
		out = append(out, f.value.of(h.data)...)
		out = append(out, "\r\n"...)
	}
	return out
}

// appendConnection writes what is true of the next connection.
func (h *head) appendConnection(out []byte, how Sending, upgrade bool) []byte {
	switch {
	case upgrade:
		out = append(out, "Connection: Upgrade\r\n"...)
		for i := range h.fields {
			if h.fields[i].kind == KindUpgrade {
				out = append(out, "Upgrade: "...)
				out = append(out, h.fields[i].value.of(h.data)...)
				out = append(out, "\r\n"...)
			}
		}
	case how.Close:
		out = append(out, "Connection: close\r\n"...)
	case how.KeepAlive:
		out = append(out, "Connection: keep-alive\r\n"...)
	}
	return out
}

func (h *head) appendFraming(out []byte, framing Framing) []byte {
	switch framing {
	case ByLength:
		out = appendLength(out, h.contentLength)
	case ByChunks:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	return out
}

func appendLength(out []byte, length int64) []byte {
	out = append(out, "Content-Length: "...)
	out = strconv.AppendInt(out, length, 10)
	return append(out, "\r\n"...)
}

func appendField(out []byte, name, value string) []byte {
	out = append(out, name...)
	out = append(out, ": "...)
	out = append(out, value...)
	return append(out, "\r\n"...)
}
