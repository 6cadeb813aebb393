// SPDX-License-Identifier: Apache-2.0

package accesslog

const (
	traceVersionEnd = 2
	traceIDEnd      = traceVersionEnd + 1 + 32
	traceParentEnd  = traceIDEnd + 1 + 16
	traceLength     = traceParentEnd + 1 + 2
)

// TraceID is the trace-id of a traceparent (W3C Trace Context, level 1), or empty when that is none.
func TraceID(traceparent string) string {
	t := traceparent
	if len(t) < traceLength || t[traceVersionEnd] != '-' || t[traceIDEnd] != '-' || t[traceParentEnd] != '-' {
		return ""
	}
	version, id, parent := t[:traceVersionEnd], t[traceVersionEnd+1:traceIDEnd], t[traceIDEnd+1:traceParentEnd]
	switch {
	case !isHexadecimal(version), !isHexadecimal(id), !isHexadecimal(parent), !isHexadecimal(t[traceParentEnd+1 : traceLength]):
		return ""
	case version == "ff", isZero(id), isZero(parent):
		return ""
	case len(t) > traceLength && (version == "00" || t[traceLength] != '-'):
		return "" // Only later versions may say more.
	}
	return id
}

// isHexadecimal says whether a text is hexadecimal in small letters.
func isHexadecimal(text string) bool {
	for i := range len(text) {
		if b := text[i]; (b < '0' || b > '9') && (b < 'a' || b > 'f') {
			return false
		}
	}
	return true
}

func isZero(text string) bool {
	for i := range len(text) {
		if text[i] != '0' {
			return false
		}
	}
	return true
}
