// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"errors"

	h2 "golang.org/x/net/http2"
)

// MalformedError says what was wrong with a message. It is a name for metrics and logs that does not
// change.
type MalformedError string

// The reasons for refusing a message.
const (
	ErrPseudo     MalformedError = "pseudo"         // A pseudo-header that is unknown, twice, missing, empty or after a field.
	ErrMethod     MalformedError = "method"         // The method is not a token.
	ErrScheme     MalformedError = "scheme"         // The scheme is none.
	ErrPath       MalformedError = "path"           // The path does not begin with a slash or holds a byte that must be encoded.
	ErrAuthority  MalformedError = "authority"      // No host with an optional port.
	ErrHost       MalformedError = "host_mismatch"  // Host names another host than :authority, or is there twice.
	ErrStatus     MalformedError = "status"         // Not three digits.
	ErrFieldName  MalformedError = "field_name"     // Not a token in small letters.
	ErrFieldValue MalformedError = "field_value"    // A control byte.
	ErrConnection MalformedError = "connection"     // A field that belongs to a connection of HTTP/1.1.
	ErrLength     MalformedError = "content_length" // Not one number, or not the length of what came.
	ErrContent    MalformedError = "content"        // Content where there can be none.
	ErrTrailer    MalformedError = "trailer"        // Trailers that do not end the stream.
	ErrHeadLarge  MalformedError = "head_large"     // A head that is larger than the limit.
	ErrFieldsMany MalformedError = "fields_many"    // More fields than the limit.
	ErrInterim    MalformedError = "interim_ends"   // An interim answer that ends the stream.
)

// Error is the name.
func (m MalformedError) Error() string { return "http2: " + string(m) }

var (
	// ErrGone says that a stream ended with its connection.
	ErrGone = errors.New("http2: the connection has ended")
	// ErrUnprocessed says that the peer has not begun with a stream, so that it may be sent again.
	ErrUnprocessed = errors.New("http2: the peer has not begun with the stream")

	errPreface = errors.New("http2: no connection preface")
	errFlood   = connError{h2.ErrCodeEnhanceYourCalm, "too much that asks for work and carries nothing"}
)

// ResetError says that the peer has reset a stream.
type ResetError struct{ Code h2.ErrCode }

// Error is the code's name.
func (r ResetError) Error() string { return "http2: stream reset: " + r.Code.String() }

// connError ends a connection.
type connError struct {
	code   h2.ErrCode
	reason string
}

func (e connError) Error() string { return "http2: " + e.reason }

func protocolError(reason string) error { return connError{h2.ErrCodeProtocol, reason} }
