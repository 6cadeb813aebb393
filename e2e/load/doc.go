// SPDX-License-Identifier: Apache-2.0

// Package load is a client that counts what users would have suffered: it sends requests at a fixed
// rate, whatever the answers (open loop): HTTP/1.1 over kept-alive and fresh connections, GET and POST
// with bodies, streams, WebSocket sessions, gRPC calls and streams. It counts as failed every request
// with an unexpected status, a reset, a truncated or altered body, or no complete answer within five
// seconds.
//
// It must not hide anything: no request is ever sent twice. net/http's Transport sends a request
// again when a kept-alive connection turns out to be dead, so this package writes to its own
// connections; of gRPC see newChannel. The one thing it does that every client does: before it sends,
// it looks whether the server has closed the idle connection already, and if so dials anew. A close
// that crosses with a request on the wire is a failure.
//
// It must not blame others for itself: names are resolved in the background, time is measured from
// the moment a request begins, what the client's own scheduling delayed is reported beside it,
// and on shutdown requests under way are finished, never cut.
package load
