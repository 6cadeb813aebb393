// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// replayLimit is how much of a request's body is kept so that it can be sent again.
const replayLimit = 64 << 10

var errBodyGone = errors.New("too much of the body was sent to send it again")

// replayBody reads a request's body once and lets several attempts read it from its start, as long
// as no attempt has read more than replayLimit of it. It streams: an attempt is given what has come
// and never waits for the rest.
type replayBody struct {
	mutex  sync.Mutex
	source io.Reader
	kept   []byte
	// current is the newest attempt.
	current *bodyAttempt
	// end is the error with which the source ended.
	end error
	// gone says that the current attempt has read more than is kept.
	gone bool
	// atEnd is called once when the source has ended well: the trailers are known then.
	atEnd func()
}

// newReplayBody returns nil for a request without a body.
func newReplayBody(request *http.Request, atEnd func()) *replayBody {
	if request.Body == nil || request.Body == http.NoBody || request.ContentLength == 0 {
		return nil
	}
	return &replayBody{source: request.Body, atEnd: atEnd}
}

// attempt returns a reader of the body from its start.
func (b *replayBody) attempt() (io.ReadCloser, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.gone {
		return nil, errBodyGone
	}
	b.current = &bodyAttempt{body: b}
	return b.current, nil
}

// replayable says whether another attempt can be made.
func (b *replayBody) replayable() bool {
	if b == nil {
		return true
	}
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return !b.gone
}

// whole returns the body if all of it has come and was kept.
func (b *replayBody) whole() ([]byte, bool) {
	if b == nil {
		return nil, true
	}
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.kept, !b.gone && b.end == io.EOF //nolint:errorlint // A body that ends well ends with bare EOF.
}

type bodyAttempt struct {
	body     *replayBody
	position int
}

func (a *bodyAttempt) Read(p []byte) (int, error) {
	b := a.body
	// The lock is held while the source is read: an attempt that was given up may still wait here
	// for the client, and what it gets is the next attempt's as well.
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.gone && a != b.current {
		return 0, errBodyGone
	}
	if a.position < len(b.kept) {
		n := copy(p, b.kept[a.position:])
		a.position += n
		return n, nil
	}
	if b.end != nil {
		return 0, b.end
	}
	n, err := b.source.Read(p)
	if err != nil {
		b.end = err
		if err == io.EOF && b.atEnd != nil { // A body that ends well ends with bare EOF.
			b.atEnd()
		}
	}
	switch {
	case b.gone:
	case a == b.current && len(b.kept)+n > replayLimit:
		b.gone, b.kept = true, nil
		a.position = 0
	default:
		b.kept = append(b.kept, p[:n]...)
		a.position += n
	}
	return n, err
}

// Close does nothing: the source is the server's to close, and an attempt that waits for it must not
// be waited for.
func (a *bodyAttempt) Close() error { return nil }

// sentAgainSafely says whether a request that got no answer on a connection may be sent again
// whatever its method. It may when the application cannot have seen it: nothing of it was written,
// or another proxy ended the connection in good order. A proxy answers whatever it has begun to
// carry, so it has not begun with this.
//
// Applications give no such promise. Requests to them are sent again by the transport if their
// method is safe, and have a connection of their own otherwise (upstreams.fresh).
func (w *watched) sentAgainSafely() bool {
	if w == nil || w.conn.bytesRead.Load() != w.readBefore {
		return false
	}
	return w.conn.bytesWritten.Load() == w.writtenBefore || w.conn.endedCleanly.Load()
}

// watched is the connection that an attempt is sent on, as it was before.
type watched struct {
	conn                      *upstreamConn
	readBefore, writtenBefore uint64
}

func watch(conn *upstreamConn) *watched {
	return &watched{conn, conn.bytesRead.Load(), conn.bytesWritten.Load()}
}

// safeMethod says that a method asks for nothing to be changed, so that it may be sent again.
func safeMethod(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}
