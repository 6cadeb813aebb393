// SPDX-License-Identifier: Apache-2.0

package http1

import "net/http"

// Error says why a message was refused. It is a small number, so that refusing makes no garbage
// either.
type Error uint8

// The reasons for refusing a message.
const (
	_                    Error = iota
	ErrRequestLine             // Not method, target and version with one space between each.
	ErrMethod                  // The method is not a token.
	ErrTarget                  // The target has none of the four forms, or not the one of its method.
	ErrTargetByte              // A byte in the target that must be percent-encoded, such as %. Audited.
	ErrTargetLong              // The request line does not fit the head.
	ErrVersion                 // Not HTTP/1.0 or HTTP/1.1.
	ErrStatusLine              // Not version, three digits and reason.
	ErrBareLF                  // A line that ends with LF alone.
	ErrFold                    // A field line that goes on in the next line. Audited in fields without a meaning here.
	ErrFieldName               // A field without a name, or with one that is not a token.
	ErrFieldSpace              // White space between a field's name and its colon.
	ErrFieldValue              // CR or NUL in a field.
	ErrFieldControl            // Another control byte in a field. Audited.
	ErrHeadLarge               // A head that is larger than the limit.
	ErrFieldsMany              // More fields than the limit.
	ErrHostMissing             // No Host in HTTP/1.1. Audited.
	ErrHostTwice               // More than one Host.
	ErrHost                    // A Host that is not a host with an optional port.
	ErrHostMismatch            // The target names another host than Host does.
	ErrLength                  // A Content-Length that is not a number.
	ErrLengthTwice             // More than one Content-Length, be they equal.
	ErrLengthAndEncoding       // Content-Length and Transfer-Encoding.
	ErrEncoding                // A Transfer-Encoding that does not end with chunked once.
	ErrEncodingUnknown         // A transfer coding other than chunked.
	ErrEncodingVersion         // Transfer-Encoding in HTTP/1.0.
	ErrContent                 // Content where the method or the status allows none.
	ErrConnection              // A Connection that is not a list of names, or is endless.
	ErrExpect                  // An expectation other than 100-continue. Audited.
	ErrUpgrade                 // A 101 that nobody asked for.
	ErrChunkSize               // A chunk size that is not a plain hexadecimal number.
	ErrChunkExtension          // A chunk extension that is malformed or endless.
	ErrChunkEnd                // Chunk data without CRLF after it.
	ErrTrailer                 // A trailer that would change how the message is read.
)

const errorCount = int(ErrTrailer) + 1

// Name is the error's name in headers, metrics and logs. Names do not change.
func (e Error) Name() string {
	name, _ := e.describe()
	return name
}

// Status is what a request is answered with.
func (e Error) Status() int {
	_, status := e.describe()
	return status
}

// Error is the name.
func (e Error) Error() string { return "http1: " + e.Name() }

func (e Error) describe() (name string, status int) {
	all := [...]struct {
		name   string
		status int
	}{
		ErrRequestLine:       {"request_line", http.StatusBadRequest},
		ErrMethod:            {"method", http.StatusBadRequest},
		ErrTarget:            {"target", http.StatusBadRequest},
		ErrTargetByte:        {"target_byte", http.StatusBadRequest},
		ErrTargetLong:        {"target_long", http.StatusRequestURITooLong},
		ErrVersion:           {"version", http.StatusHTTPVersionNotSupported},
		ErrStatusLine:        {"status_line", http.StatusBadRequest},
		ErrBareLF:            {"bare_lf", http.StatusBadRequest},
		ErrFold:              {"obs_fold", http.StatusBadRequest},
		ErrFieldName:         {"field_name", http.StatusBadRequest},
		ErrFieldSpace:        {"space_before_colon", http.StatusBadRequest},
		ErrFieldValue:        {"field_value", http.StatusBadRequest},
		ErrFieldControl:      {"field_control", http.StatusBadRequest},
		ErrHeadLarge:         {"head_large", http.StatusRequestHeaderFieldsTooLarge},
		ErrFieldsMany:        {"fields_many", http.StatusRequestHeaderFieldsTooLarge},
		ErrHostMissing:       {"host_missing", http.StatusBadRequest},
		ErrHostTwice:         {"host_twice", http.StatusBadRequest},
		ErrHost:              {"host", http.StatusBadRequest},
		ErrHostMismatch:      {"host_mismatch", http.StatusBadRequest},
		ErrLength:            {"content_length", http.StatusBadRequest},
		ErrLengthTwice:       {"content_length_twice", http.StatusBadRequest},
		ErrLengthAndEncoding: {"content_length_and_transfer_encoding", http.StatusBadRequest},
		ErrEncoding:          {"transfer_encoding", http.StatusBadRequest},
		ErrEncodingUnknown:   {"transfer_encoding_unknown", http.StatusNotImplemented},
		ErrEncodingVersion:   {"transfer_encoding_version", http.StatusBadRequest},
		ErrContent:           {"content", http.StatusBadRequest},
		ErrConnection:        {"connection", http.StatusBadRequest},
		ErrExpect:            {"expect", http.StatusExpectationFailed},
		ErrUpgrade:           {"upgrade", http.StatusBadRequest},
		ErrChunkSize:         {"chunk_size", http.StatusBadRequest},
		ErrChunkExtension:    {"chunk_extension", http.StatusBadRequest},
		ErrChunkEnd:          {"chunk_end", http.StatusBadRequest},
		ErrTrailer:           {"trailer", http.StatusBadRequest},
	}
	if e == 0 || int(e) >= len(all) {
		return "unknown", http.StatusBadRequest
	}
	return all[e].name, all[e].status
}

// Errors is a set of them.
type Errors uint64

// Has says whether the set has an error.
func (s Errors) Has(e Error) bool { return s&(1<<e) != 0 }

// All calls yield with each error of the set.
func (s Errors) All(yield func(Error) bool) {
	for e := Error(1); int(e) < errorCount; e++ {
		if s.Has(e) && !yield(e) {
			return
		}
	}
}

func (s *Errors) add(e Error) { *s |= 1 << e }
