// SPDX-License-Identifier: Apache-2.0

package accesslog

import (
	"net/netip"
	"time"
)

// Entry is what a line tells of a request. Texts may be anything that a client sends.
type Entry struct {
	Received time.Time
	// Direction is "inbound" for a request to the pod and "outbound" for one of its application.
	Direction string
	// Client is the other side of the connection, ClientID the SPIFFE ID that it has proved.
	Client   netip.AddrPort
	ClientID string

	Method, Host, Path, Query string
	// Version is as in a request line: "HTTP/1.1".
	Version            string
	UserAgent, Referer string
	// TraceID is that of the request's traceparent.
	TraceID string

	// Status is 0 when the client was told none.
	Status     int
	GRPCStatus string
	// Error is the proxy's own code of what went wrong.
	Error string
	// Endpoint is who has answered, Hash the pod-template-hash of it.
	Endpoint, Hash string
	// Bytes of the content, without heads.
	RequestBytes, ResponseBytes int64
	// FirstByte is the time until the head of the answer, 0 without one; Total until its end.
	FirstByte, Total time.Duration
}
