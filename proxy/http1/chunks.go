// SPDX-License-Identifier: Apache-2.0

package http1

import "io"

// chunkLineMost bounds the line before a chunk: a size and extensions that nobody reads.
const chunkLineMost = 1 << 10

// nextOfChunks returns the next data of chunked content.
func (r *Reader) nextOfChunks() ([]byte, error) {
	if r.content.remaining == 0 {
		if err := r.nextChunk(); err != nil {
			return nil, err
		}
		if r.content.remaining == 0 {
			if err := r.readTrailers(); err != nil {
				return nil, err
			}
			r.content.ended = true
			return nil, io.EOF
		}
	}
	return r.take()
}

// nextChunk reads the end of one chunk and the size of the next.
func (r *Reader) nextChunk() error {
	if r.content.chunks {
		end, err := r.line(chunkLineMost, ErrChunkEnd)
		if err != nil {
			return err
		}
		if !end.empty() {
			return ErrChunkEnd
		}
	}
	line, err := r.line(chunkLineMost, ErrChunkExtension)
	if err != nil {
		return err
	}
	r.content.remaining, err = chunkSize(line.of(r.buffer[r.message:]))
	r.content.chunks = true
	return err
}

// chunkSize reads the line before a chunk. White space is nowhere allowed in it: what one recipient
// skips, another takes for the end.
func chunkSize(line []byte) (int64, error) {
	size, digits := uint64(0), 0
	for digits < len(line) {
		value, ok := hexadecimal(line[digits])
		if !ok {
			break
		}
		size = size<<4 | value
		digits++
	}
	if digits == 0 || digits > 16 || size > 1<<63-1 {
		return 0, ErrChunkSize
	}
	if rest := line[digits:]; len(rest) > 0 {
		if rest[0] != ';' {
			return 0, ErrChunkSize
		}
		return int64(size), checkExtensions(rest)
	}
	return int64(size), nil
}

func hexadecimal(b byte) (uint64, bool) {
	switch b = lower(b); {
	case isDigit(b):
		return uint64(b - '0'), true
	case 'a' <= b && b <= 'f':
		return uint64(b-'a') + 10, true
	}
	return 0, false
}

// checkExtensions checks the form of extensions, which go no further: ;name or ;name=value, where
// the value is a token or quoted.
func checkExtensions(text []byte) error {
	for len(text) > 0 {
		if text[0] != ';' {
			return ErrChunkExtension
		}
		name := tokenLength(text[1:])
		if name == 0 {
			return ErrChunkExtension
		}
		text = text[1+name:]
		if len(text) == 0 || text[0] != '=' {
			continue
		}
		value := tokenLength(text[1:])
		if value == 0 {
			value = quotedLength(text[1:])
		}
		if value == 0 {
			return ErrChunkExtension
		}
		text = text[1+value:]
	}
	return nil
}

func tokenLength(text []byte) int {
	n := 0
	for n < len(text) && isTokenByte(text[n]) {
		n++
	}
	return n
}

// quotedLength is the length of a quoted string; 0 if there is none.
func quotedLength(text []byte) int {
	if len(text) == 0 || text[0] != '"' {
		return 0
	}
	for n := 1; n < len(text); n++ {
		switch b := text[n]; {
		case b == '"':
			return n + 1
		case b < ' ' && b != '\t', b == 0x7f:
			return 0
		case b == '\\':
			// The next may be a quote, but no control byte either.
			if n++; n == len(text) || text[n] < ' ' && text[n] != '\t' || text[n] == 0x7f {
				return 0
			}
		}
	}
	return 0
}

// readTrailers reads the fields after the last chunk and keeps them behind the head.
func (r *Reader) readTrailers() error {
	// The content that was handed out lies between; it goes.
	r.closeGap()
	r.searched = r.next
	from := r.kept - r.message
	for {
		line, err := r.headLine(from, ErrHeadLarge)
		if err != nil {
			return err
		}
		data := r.buffer[r.message:r.next]
		if line.empty() {
			r.content.tail = data
			return nil
		}
		if err := r.addTrailer(data, line); err != nil {
			return err
		}
	}
}

// addTrailer adds a trailer. Those that would have changed how the message is read or where it goes
// come too late; some recipients would merge them with the head all the same.
func (r *Reader) addTrailer(data []byte, line span) error {
	text := line.of(data)
	if isBlank(text[0]) {
		return ErrFold
	}
	if len(r.content.trailers) == r.rules.MaxFields {
		return ErrFieldsMany
	}
	added, err := splitField(text, line.start)
	if err != nil {
		return err
	}
	if hop.has(added.kind) {
		return ErrTrailer
	}
	if err := checkValue(added.value.of(data)); err != nil {
		return err
	}
	r.content.trailers = append(r.content.trailers, added)
	return nil
}

// Trailers calls yield with each field that came after the last chunk.
func (r *Reader) Trailers(yield func(name, value []byte) bool) {
	for _, trailer := range r.content.trailers {
		if !yield(trailer.name.of(r.content.tail), trailer.value.of(r.content.tail)) {
			return
		}
	}
}
