// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds nesting, so that a hostile document cannot exhaust the stack.
const maxDepth = 100

// Canonical encodes a value as JSON of which there is only one form: RFC 8785, with integers written
// out in full and members that are null left out, because the API server may drop those.
func Canonical(value any) ([]byte, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", value, err)
	}
	return canonicalJSON(raw)
}

// canonicalJSON brings a JSON document into its one form.
func canonicalJSON(raw []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var decoded any
	if err := decoder.Decode(&decoded); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, fmt.Errorf("read JSON: something follows the value")
	}
	return appendValue(nil, decoded, 0)
}

func appendValue(out []byte, value any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("encode JSON: nested deeper than %d", maxDepth)
	}
	switch v := value.(type) {
	case nil:
		return append(out, "null"...), nil
	case bool:
		return strconv.AppendBool(out, v), nil
	case string:
		return appendString(out, v)
	case json.Number:
		return appendNumber(out, v)
	case []any:
		return appendArray(out, v, depth)
	case map[string]any:
		return appendObject(out, v, depth)
	}
	return nil, fmt.Errorf("encode JSON: %T is no JSON value", value)
}

func appendArray(out []byte, items []any, depth int) ([]byte, error) {
	out = append(out, '[')
	var err error
	for i, item := range items {
		if i > 0 {
			out = append(out, ',')
		}
		if out, err = appendValue(out, item, depth+1); err != nil {
			return nil, err
		}
	}
	return append(out, ']'), nil
}

func appendObject(out []byte, members map[string]any, depth int) ([]byte, error) {
	out = append(out, '{')
	var err error
	first := true
	for _, key := range slices.SortedFunc(maps.Keys(members), byCodeUnits) {
		if members[key] == nil {
			continue
		}
		if !first {
			out = append(out, ',')
		}
		first = false
		if out, err = appendString(out, key); err != nil {
			return nil, err
		}
		out = append(out, ':')
		if out, err = appendValue(out, members[key], depth+1); err != nil {
			return nil, err
		}
	}
	return append(out, '}'), nil
}

// byCodeUnits is the order of RFC 8785, which differs from that of bytes beyond the basic plane.
func byCodeUnits(a, b string) int {
	return slices.CompareFunc(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)), cmp.Compare[uint16])
}

// appendNumber writes an integer as it is and anything else as ECMAScript does, which is what
// encoding/json does with a float64.
func appendNumber(out []byte, number json.Number) ([]byte, error) {
	text := number.String()
	if !strings.ContainsAny(text, ".eE") {
		if text == "-0" {
			text = "0"
		}
		return append(out, text...), nil
	}
	float, err := number.Float64()
	if err != nil {
		return nil, fmt.Errorf("encode JSON: number %s: %w", text, err)
	}
	written, err := json.Marshal(float)
	if err != nil {
		return nil, fmt.Errorf("encode JSON: number %s: %w", text, err)
	}
	if string(written) == "-0" {
		written = []byte("0")
	}
	return append(out, written...), nil
}

func appendString(out []byte, text string) ([]byte, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("encode JSON: %q is not valid UTF-8", text)
	}
	out = append(out, '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c >= 0x20:
			out = append(out, c)
		default:
			out = appendControl(out, c)
		}
	}
	return append(out, '"'), nil
}

func appendControl(out []byte, c byte) []byte {
	if i := strings.IndexByte("\b\t\n\f\r", c); i >= 0 {
		return append(out, '\\', "btnfr"[i])
	}
	return fmt.Appendf(out, `\u%04x`, c)
}
