// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"sync/atomic"
	"time"
)

// obtain returns a new link or, if that comes first, one that another request has put back. Where
// processors are short answers take longer, so more requests are under way at once; if each of them
// insisted on a connection of its own, handshakes would take what is left of the processors. The link
// that is opened in vain is for the next request; one whose turn has not come then is not opened. It is
// so, too, when done says that the time of the request is up.
func (u *upstreams) obtain(ctx context.Context, to hop, done <-chan struct{}) (*link, error) {
	key := linkKey{to.address, to.identity}
	freed := u.pool.await(key)
	defer u.pool.stopAwaiting(key, freed)
	var served atomic.Bool
	waits, noMore := context.WithCancel(ctx)
	defer noMore()
	opened := make(chan opening, 1)
	go func() {
		l, err := u.openInTurn(ctx, waits, &to)
		if served.CompareAndSwap(false, true) {
			opened <- opening{l, err}
		} else if err == nil { // Who fails now has kept nobody waiting.
			u.pool.put(l, time.Now())
		}
	}()
	select {
	case o := <-opened:
		return o.link, o.err
	case l := <-freed:
		if l.alive(time.Now()) && served.CompareAndSwap(false, true) {
			return l, nil
		}
		freed <- l // It is put back, and closed by whoever finds that it has ended.
		o := <-opened
		return o.link, o.err
	case <-done:
		if served.CompareAndSwap(false, true) {
			return nil, errTimeUp
		}
		o := <-opened
		return o.link, o.err
	}
}

// opening is how opening a link ended.
type opening struct {
	link *link
	err  error
}
