// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// replayLimit is how much of a request's body is kept so that it can be sent again.
const replayLimit = 64 << 10

var errBodyGone = errors.New("too much of the body was sent to send it again")

// replayBody reads a request's body once and lets several attempts read it from its start, as long
// as no attempt has read more than replayLimit of it. It streams: an attempt is given what has come
// and never waits for the rest.
type replayBody struct {
	// The lock is held while the source is waited for.
	mutex  sync.Mutex
	source io.Reader
	kept   []byte
	// end is the error with which the source ended.
	end error
	// current is the newest attempt.
	current atomic.Pointer[bodyAttempt]
	// complete says that all has come, gone that the current attempt has read more than is kept.
	complete, gone atomic.Bool
}

func newReplayBody(source io.Reader) *replayBody { return &replayBody{source: source} }

// attempt returns a reader of the body from its start.
func (b *replayBody) attempt() (io.Reader, error) {
	attempt := &bodyAttempt{body: b}
	b.current.Store(attempt)
	if b.gone.Load() {
		return nil, errBodyGone
	}
	return attempt, nil
}

// replayable says whether another attempt can be made.
func (b *replayBody) replayable() bool { return b == nil || !b.gone.Load() }

// whole returns the body if all of it has come and was kept. Nobody may read it any more.
func (b *replayBody) whole() ([]byte, bool) { return b.kept, b.complete.Load() && !b.gone.Load() }

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
	if b.gone.Load() && a != b.current.Load() {
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
		b.complete.Store(errors.Is(err, io.EOF))
	}
	switch {
	case b.gone.Load():
	case a == b.current.Load() && len(b.kept)+n > replayLimit:
		b.gone.Store(true)
		b.kept, a.position = nil, 0
	default:
		b.kept = append(b.kept, p[:n]...)
		a.position += n
	}
	return n, err
}

// safeMethod says that a method asks for nothing to be changed, so that it may be sent again.
func safeMethod(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}
