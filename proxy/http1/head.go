// SPDX-License-Identifier: Apache-2.0

package http1

// Framing is how the end of a message's content is known.
type Framing uint8

// The framings.
const (
	// NoContent says that the message ends with its head.
	NoContent Framing = iota
	// ByLength says that Content-Length counts it.
	ByLength
	// ByChunks says that it comes in chunks, of which the last is empty.
	ByChunks
	// UntilClose says that it ends with the connection.
	UntilClose
	// Tunnel says that what follows is no longer HTTP.
	Tunnel
)

// optionsMost bounds what one Connection may list: each name is looked for among all fields.
const optionsMost = 32

// head is what requests and responses have in common.
type head struct {
	data   []byte
	fields []field
	// minor is the version's second digit.
	minor byte

	hosts, lengths, encodings int
	host, length, encoding    span
	// What Connection says.
	closes, keepsAlive, upgrades bool
	// trailers says that TE accepts them, protocol that Upgrade names one.
	trailers, protocol bool
	findings           Errors

	// What follows from all that.
	framing       Framing
	contentLength int64
}

func (h *head) reset() { *h = head{fields: h.fields[:0]} }

// Findings are what was let pass in audit mode.
func (h *head) Findings() Errors { return h.findings }

// Framing is how the end of the content is known.
func (h *head) Framing() Framing { return h.framing }

// ContentLength is the length of content that is framed by it, -1 for other content, 0 for none.
func (h *head) ContentLength() int64 {
	switch h.framing {
	case ByLength:
		return h.contentLength
	case NoContent:
		return 0
	}
	return -1
}

// Value returns the first value of a field by its name in any case, nil when there is none.
func (h *head) Value(name string) []byte {
	for i := range h.fields {
		if equalFold(h.fields[i].name.of(h.data), name) {
			return h.fields[i].value.of(h.data)
		}
	}
	return nil
}

// Values returns all values of a field by its name in any case.
func (h *head) Values(name string) []string {
	var values []string
	for i := range h.fields {
		if equalFold(h.fields[i].name.of(h.data), name) {
			values = append(values, string(h.fields[i].value.of(h.data)))
		}
	}
	return values
}

// Fields calls yield with the name and value of each field as it came.
func (h *head) Fields(yield func(name, value []byte) bool) {
	for i := range h.fields {
		if !yield(h.fields[i].name.of(h.data), h.fields[i].value.of(h.data)) {
			return
		}
	}
}

// Onward calls yield with the name and value of each field that goes beyond the connection.
func (h *head) Onward(yield func(name, value []byte) bool) {
	for i := range h.fields {
		f := &h.fields[i]
		if f.dropped || hop.has(f.kind) {
			continue
		}
		if !yield(f.name.of(h.data), f.value.of(h.data)) {
			return
		}
	}
}

// addLine adds a field line.
func (h *head) addLine(data []byte, line span, rules Rules) error {
	text := line.of(data)
	if isBlank(text[0]) {
		return h.fold(data, line, rules)
	}
	if len(h.fields) == rules.MaxFields {
		return ErrFieldsMany
	}
	added, err := splitField(text, line.start)
	if err != nil {
		return err
	}
	if err := h.allow(checkValue(added.value.of(data)), rules); err != nil {
		return err
	}
	h.fields = append(h.fields, added)
	switch added.kind {
	case KindHost:
		h.hosts++
		h.host = added.value
	case KindContentLength:
		h.lengths++
		h.length = added.value
	case KindTransferEncoding:
		h.encodings++
		h.encoding = added.value
	case KindUpgrade:
		h.protocol = h.protocol || !added.value.empty()
	}
	return nil
}

// fold adds a line that goes on with the last field. It may pass in audit mode, made one line with
// blanks, unless the field means something here.
func (h *head) fold(data []byte, line span, rules Rules) error {
	if len(h.fields) == 0 {
		return ErrFold
	}
	last := &h.fields[len(h.fields)-1]
	if last.kind != KindOther {
		return ErrFold
	}
	if err := h.allow(ErrFold, rules); err != nil {
		return err
	}
	for i := last.value.end; i < line.start; i++ {
		data[i] = ' '
	}
	value := trim(data[last.value.start:line.end])
	if err := h.allow(checkValue(value), rules); err != nil {
		return err
	}
	for isBlank(data[last.value.start]) && last.value.start < line.end {
		last.value.start++
	}
	last.value.end = last.value.start + uint32(len(value))
	return nil
}

// allow lets an error pass in audit mode if it is one that can.
func (h *head) allow(err error, rules Rules) error {
	if err == nil || !rules.Audit {
		return err
	}
	switch found := err.(Error); found { //nolint:errorlint // What may pass is never wrapped.
	case ErrTargetByte, ErrFold, ErrFieldControl, ErrHostMissing, ErrExpect:
		h.findings.add(found)
		return nil
	}
	return err
}

// readVersion reads the version's eight bytes.
func (h *head) readVersion(text []byte) error {
	if len(text) != len("HTTP/1.1") || string(text[:5]) != "HTTP/" || !isDigit(text[5]) || text[6] != '.' || !isDigit(text[7]) {
		return ErrRequestLine
	}
	if text[5] != '1' || text[7] > '1' {
		return ErrVersion
	}
	h.minor = text[7] - '0'
	return nil
}

// readConnection reads the fields that belong to the connection.
func (h *head) readConnection() error {
	options := 0
	for i := range h.fields {
		value := h.fields[i].value.of(h.data)
		switch h.fields[i].kind {
		case KindTE:
			h.trailers = h.trailers || acceptsTrailers(value)
		case KindConnection:
			for len(value) > 0 {
				var option []byte
				option, value = nextElement(value)
				if options++; options > optionsMost {
					return ErrConnection
				}
				if len(option) == 0 {
					continue
				}
				if !isToken(option) {
					return ErrConnection
				}
				h.addOption(option)
			}
		}
	}
	return nil
}

func (h *head) addOption(option []byte) {
	switch {
	case equalFold(option, "close"):
		h.closes = true
	case equalFold(option, "keep-alive"):
		h.keepsAlive = true
	case equalFold(option, "upgrade"):
		h.upgrades = true
	default:
		for i := range h.fields {
			if equalFold(h.fields[i].name.of(h.data), option) {
				h.fields[i].dropped = true
			}
		}
	}
}

func acceptsTrailers(value []byte) bool {
	for len(value) > 0 {
		var coding []byte
		if coding, value = nextElement(value); equalFold(coding, "trailers") {
			return true
		}
	}
	return false
}

// persists says whether the sender keeps the connection open after this message.
func (h *head) persists() bool {
	if h.minor == 0 {
		return h.keepsAlive && !h.closes
	}
	return !h.closes
}

// readFraming decides how the content ends, as far as fields say so. It refuses whatever another
// recipient could read differently.
func (h *head) readFraming() error {
	switch {
	case h.encodings > 0 && h.lengths > 0:
		return ErrLengthAndEncoding
	case h.encodings > 0:
		h.framing = ByChunks
		return h.readEncoding()
	case h.lengths > 1:
		return ErrLengthTwice
	case h.lengths == 1:
		length, ok := decimal(h.length.of(h.data))
		if !ok {
			return ErrLength
		}
		h.framing, h.contentLength = ByLength, length
	}
	return nil
}

func (h *head) readEncoding() error {
	value := h.encoding.of(h.data)
	switch {
	case h.minor == 0:
		return ErrEncodingVersion
	case h.encodings > 1:
		return ErrEncoding
	case equalFold(value, "chunked"):
		return nil
	}
	// Several codings may be right, but what else there is cannot be understood here.
	chunked := 0
	var coding []byte
	for len(value) > 0 {
		if coding, value = nextElement(value); equalFold(coding, "chunked") {
			chunked++
		}
	}
	if chunked == 1 && equalFold(coding, "chunked") {
		return ErrEncodingUnknown
	}
	return ErrEncoding
}
