// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHandshakesAreBounded(t *testing.T) {
	h := newHandshakes()
	var leaves []func()
	for range cap(h.slots) {
		leave, err := h.begin(t.Context())
		require.NoError(t, err)
		leaves = append(leaves, leave)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	_, err := h.begin(ended)
	require.ErrorIs(t, err, errHandshakesBusy)
	leaves[0]()
	leaves[0]() // A slot is given back once.
	again, err := h.begin(t.Context())
	require.NoError(t, err)
	_, err = h.begin(ended)
	require.ErrorIs(t, err, errHandshakesBusy)
	again()
	h.waiting.Store(handshakesWaiting)
	_, err = h.begin(t.Context())
	require.ErrorIs(t, err, errHandshakesBusy, "at once")
	require.EqualValues(t, handshakesWaiting, h.waiting.Load())
}

// TestWhoWaitsForAClientHoldsNoSlot: clients that begin handshakes and say nothing more do not keep
// others from theirs.
func TestWhoWaitsForAClientHoldsNoSlot(t *testing.T) {
	near, far := wire(t)
	defer near.Close()
	h := newHandshakes()
	leave, err := h.begin(t.Context())
	require.NoError(t, err)
	conn := &servedConn{Conn: far, prefix: []byte("hello"), beforeWait: leave}
	defer conn.Close()
	got := make([]byte, 5)
	_, err = conn.Read(got)
	require.NoError(t, err)
	require.Len(t, h.slots, 1, "what was read already is not waited for")
	_, err = near.Write([]byte("more"))
	require.NoError(t, err)
	_, err = conn.Read(got)
	require.NoError(t, err)
	require.Empty(t, h.slots)
}
