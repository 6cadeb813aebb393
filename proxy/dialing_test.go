// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDialsAreBounded(t *testing.T) {
	d := newDialing()
	var leaves []func()
	for range dialsMost {
		leave, err := d.enter(t.Context(), "a")
		require.NoError(t, err)
		leaves = append(leaves, leave)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.enter(canceled, "a")
	require.ErrorIs(t, err, errDialsBusy, "the address has no slot left")
	leave, err := d.enter(t.Context(), "b")
	require.NoError(t, err, "other addresses have their own")
	leave()
	var waiting sync.WaitGroup
	waiting.Go(func() {
		leave, err := d.enter(t.Context(), "a")
		if err != nil {
			t.Error(err)
			return
		}
		leave()
	})
	for _, leave := range leaves {
		leave()
	}
	waiting.Wait()
	require.Empty(t, d.slots, "nothing is kept of what is over")
}

func TestWhoWaitsToDialIsBounded(t *testing.T) {
	d := newDialing()
	d.slots["a"] = &dialSlots{taken: make(chan struct{}, 1), users: dialersMost}
	_, err := d.enter(t.Context(), "a")
	require.ErrorIs(t, err, errDialsBusy, "at once, though a slot were free")
	require.Equal(t, dialersMost, d.slots["a"].users)
}

// TestOverloadIsSaid: a request for which no connection was even begun says so, and nobody suspects the
// endpoint.
func TestOverloadIsSaid(t *testing.T) {
	p := New(Options{})
	choose := chooserTo(p, "10.9.9.9:80")
	to, ok := choose.next()
	require.True(t, ok)
	require.Equal(t, errorConnect, choose.failure())
	key := to.key
	for ok {
		choose.failed(to, &connectError{to.address, errDialsBusy, true})
		require.Equal(t, errorOverload, choose.failure())
		to, ok = choose.next()
	}
	require.Equal(t, suspectAfter, choose.attempts)
	require.Zero(t, p.balancer.of(key).suspectSince.Load())
}
