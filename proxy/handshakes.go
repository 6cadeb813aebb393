// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
)

const (
	// handshakeWait is how long a handshake waits to be begun. Who has not been answered by then has given
	// up, and what is computed for it would be in vain.
	handshakeWait = handshakeTime
	// handshakesWaiting is how many may wait.
	handshakesWaiting = 512
)

// errHandshakesBusy is for connections whose handshake was not begun.
var errHandshakesBusy = errors.New("too many handshakes wait for a processor")

// What became of a handshake.
const (
	handshakeWhole   = "whole"
	handshakeResumed = "resumed"
	handshakeFailed  = "failed"
	handshakeShed    = "shed"
)

// handshakes bounds how many handshakes that others have begun compute at once: half of the processors
// are left to the requests of connections that exist, and what is begun is finished first.
type handshakes struct {
	slots   chan struct{}
	waiting atomic.Int64
}

func newHandshakes() *handshakes {
	return &handshakes{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// begin waits for a slot, which leave gives back once. Who waits for the other side needs none.
func (h *handshakes) begin(ctx context.Context) (leave func(), _ error) {
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > handshakesWaiting {
		return nil, errHandshakesBusy
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeWait)
	defer cancel()
	select {
	case h.slots <- struct{}{}:
		var left atomic.Bool
		return func() {
			if !left.Swap(true) {
				<-h.slots
			}
		}, nil
	case <-ctx.Done():
		return nil, errHandshakesBusy
	}
}
