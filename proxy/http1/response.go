// SPDX-License-Identifier: Apache-2.0

package http1

// Response is the head of a response. It points into its reader's buffer and is valid until the next
// message is read. A Response may be used again and again.
type Response struct {
	head
	status int
	reason span
	asked  Asked
}

// Asked is what a request says about its response.
type Asked struct{ Head, Connect, Upgrade bool }

// Status is the status code.
func (r *Response) Status() int { return r.status }

// Interim says that another response to the same request follows.
func (r *Response) Interim() bool { return r.status/100 == 1 && r.framing != Tunnel }

// KeepsAlive says that the server will take another request on this connection when the content has
// been read.
func (r *Response) KeepsAlive() bool {
	return r.persists() && r.framing != UntilClose && r.framing != Tunnel
}

// StatedLength is what Content-Length says: of the content, or of that which a GET would have had. It is
// -1 when it says nothing, or nothing that may be said.
func (r *Response) StatedLength() int64 {
	if r.lengths == 0 || r.framing == Tunnel || r.status/100 == 1 || r.status == 204 {
		return -1
	}
	return r.contentLength
}

// FramingTo is how the content is sent to a client: one of HTTP/1.0 knows no chunks.
func (r *Response) FramingTo(version1 bool) Framing {
	switch {
	case r.framing != ByChunks && r.framing != UntilClose:
		return r.framing
	case version1:
		return ByChunks
	}
	return UntilClose
}

// ReadResponse reads the head of the next response. It returns a bare io.EOF when the connection has
// ended without one. The content of the message before must have been read.
func (r *Reader) ReadResponse(response *Response, asked Asked) error {
	if err := r.begin(&response.head); err != nil {
		return err
	}
	response.status, response.reason, response.asked = 0, span{}, asked
	line, err := r.headLine(0, ErrHeadLarge)
	if err != nil {
		return err
	}
	if err := response.readLine(r.buffer[r.message:r.next], line, r.rules); err != nil {
		return err
	}
	if err := r.fieldLines(&response.head); err != nil {
		return err
	}
	if err := response.finish(); err != nil {
		return err
	}
	r.content.begin(&response.head)
	return nil
}

// readLine reads the status line. The space before an empty reason may be missing: many servers
// leave it out.
func (r *Response) readLine(data []byte, line span, rules Rules) error {
	text := line.of(data)
	const version, code = len("HTTP/1.1"), len("HTTP/1.1 200")
	if len(text) < code || text[version] != ' ' || len(text) > code && text[code] != ' ' {
		return ErrStatusLine
	}
	if err := r.readVersion(text[:version]); err != nil {
		if err == ErrRequestLine { //nolint:errorlint // Never wrapped.
			return ErrStatusLine
		}
		return err
	}
	status, ok := decimal(text[version+1 : code])
	if !ok || status < 100 {
		return ErrStatusLine
	}
	r.status = int(status)
	if len(text) > code {
		r.reason = span{line.start + uint32(code) + 1, line.end}
	}
	return r.allow(checkValue(r.reason.of(data)), rules)
}

// finish decides what follows the head.
func (r *Response) finish() error {
	if err := r.readFraming(); err != nil {
		return err
	}
	if err := r.readConnection(); err != nil {
		return err
	}
	// Where no content can follow, a head that says otherwise would be believed by some.
	claims := r.framing == ByChunks || r.contentLength > 0
	switch {
	case r.status == 101:
		if !r.asked.Upgrade || !r.upgrades || !r.protocol || r.framing != NoContent {
			return ErrUpgrade
		}
		r.framing = Tunnel
	case r.status/100 == 1, r.status == 204:
		r.framing = NoContent
		if claims {
			return ErrContent
		}
	case r.asked.Connect && r.status/100 == 2:
		// Here RFC 9110 section 9.3.6 wants the claim to be ignored.
		r.framing = Tunnel
	case r.asked.Head, r.status == 304:
		r.framing = NoContent
	case r.framing == NoContent:
		r.framing = UntilClose
	}
	return nil
}
