// SPDX-License-Identifier: Apache-2.0

// Package http2 carries the streams of an HTTP/2 connection, of either side, as RFC 9113 has them.
// Frames and HPACK are those of golang.org/x/net; what this package adds is what a proxy needs and no
// net/http: heads as lists of fields, checked strictly; data that is queued within the windows of
// both sides, so that a slow recipient slows its sender down and nobody else; and limits on what a
// peer can make this side do.
//
// A Conn has one goroutine that reads, whoever calls Serve, and one that writes. What is read is told
// to a Receiver, which must not wait; what is sent is queued and never waits either. Nothing is sent
// with a lock held that telling needs, so two connections may be joined by receivers that call each
// other's streams.
package http2
