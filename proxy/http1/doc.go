// SPDX-License-Identifier: Apache-2.0

// Package http1 reads and writes HTTP/1.1 messages as RFC 9110 and RFC 9112 have them and refuses
// whatever two recipients could read differently. It makes no garbage: a head is parsed where it was
// read, its fields are offsets into one pooled buffer, and content is handed out in place.
//
// A Reader reads the messages of a connection, one after the other: ReadRequest or ReadResponse for
// the head, Next for its content until io.EOF. What is sent on is never a copy of what came: a Writer
// writes a head anew from its parsed fields, without those that belong to one connection, and content
// again in chunks of its own.
//
// Refusals are values of Error, each with a name that does not change and the status to answer with.
// After one the connection must be closed: where the next message begins is not known.
package http1
