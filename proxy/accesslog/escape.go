// SPDX-License-Identifier: Apache-2.0

package accesslog

import (
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// textMost is how many bytes of one text are written.
const textMost = 2 << 10

const hexadecimal = "0123456789abcdef"

// appendJSON appends a text as a string of JSON. What is not printable is escaped, also where JSON would
// let it be: it could turn the order of what a terminal shows, or hide it.
func appendJSON(to []byte, text string) []byte {
	to = append(to, '"')
	for text = cut(text); len(text) > 0; {
		r, size := utf8.DecodeRuneInString(text)
		text = text[size:]
		switch {
		case r == '"' || r == '\\':
			to = append(to, '\\', byte(r))
		case r < utf8.RuneSelf && r >= ' ' && r != 0x7f:
			to = append(to, byte(r))
		case r == utf8.RuneError && size == 1:
			to = append(to, `\ufffd`...)
		case unicode.IsPrint(r):
			to = utf8.AppendRune(to, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			to = appendUnit(appendUnit(to, high), low)
		default:
			to = appendUnit(to, r)
		}
	}
	return append(to, '"')
}

// appendUnit appends the escape of one unit of UTF-16.
func appendUnit(to []byte, unit rune) []byte {
	return append(to, '\\', 'u',
		hexadecimal[unit>>12&0xf], hexadecimal[unit>>8&0xf], hexadecimal[unit>>4&0xf], hexadecimal[unit&0xf])
}

// appendQuoted appends a text that stands within quotes, as httpd does: bytes that are not printable
// ASCII as \xhh. appendWord does so with spaces as well, for a text that a space would end.
func appendQuoted(to []byte, text string) []byte { return appendApache(to, text, ' ') }
func appendWord(to []byte, text string) []byte   { return appendApache(to, text, ' '+1) }

func appendApache(to []byte, text string, lowest byte) []byte {
	if text == "" {
		return append(to, '-')
	}
	text = cut(text)
	for i := range len(text) {
		switch b := text[i]; {
		case b == '"' || b == '\\':
			to = append(to, '\\', b)
		case b >= lowest && b < 0x7f:
			to = append(to, b)
		default:
			to = append(to, '\\', 'x', hexadecimal[b>>4], hexadecimal[b&0xf])
		}
	}
	return to
}

// cut is the beginning of a text that is too long, up to the end of a rune.
func cut(text string) string {
	if len(text) <= textMost {
		return text
	}
	end := textMost
	for end > textMost-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
