// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newUpstreamsWith(dial func(context.Context, string) (net.Conn, error)) *upstreams {
	return newUpstreams(Options{Dial: dial, ConnectTime: time.Minute}, testMetrics())
}

// Whoever waits for a new link takes one that comes free before, and the new one is for the next.
func TestLinksThatComeFreeAreTakenFirst(t *testing.T) {
	let, dialed := make(chan struct{}), make(chan struct{}, 1)
	var far net.Conn
	u := newUpstreamsWith(func(context.Context, string) (net.Conn, error) {
		dialed <- struct{}{}
		<-let
		near, other := net.Pipe()
		far = other
		return near, nil
	})
	to := hop{address: "a:1"}
	key := linkKey{address: "a:1"}
	freed, _ := newLink(t, key, time.Now().Add(time.Hour))
	got := make(chan *link, 1)
	go func() {
		l, err := u.obtain(t.Context(), to, nil)
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	<-dialed
	u.pool.put(freed, time.Now())
	require.Same(t, freed, <-got)
	require.Empty(t, u.pool.waiting)
	close(let)
	var opened *link
	require.Eventually(t, func() bool { opened = u.pool.pop(key); return opened != nil }, time.Minute, time.Millisecond)
	require.NotSame(t, freed, opened)
	opened.close()
	require.NoError(t, far.Close())
}

// A link that has ended is not what was waited for, and one that comes too late is kept.
func TestLinksThatComeTooLateAreKept(t *testing.T) {
	let, dialed := make(chan struct{}), make(chan struct{}, 1)
	refused := errors.New("refused")
	u := newUpstreamsWith(func(context.Context, string) (net.Conn, error) {
		dialed <- struct{}{}
		<-let
		return nil, refused
	})
	key := linkKey{address: "a:1"}
	dead, far := newLink(t, key, time.Now().Add(time.Hour))
	require.NoError(t, far.Close())
	require.Eventually(t, func() bool { return !dead.alive(time.Now()) }, time.Minute, time.Millisecond)
	failed := make(chan error, 1)
	go func() {
		_, err := u.obtain(t.Context(), hop{address: "a:1"}, nil)
		failed <- err
	}()
	<-dialed
	u.pool.put(dead, time.Now())
	require.Eventually(t, func() bool {
		u.pool.mutex.Lock()
		defer u.pool.mutex.Unlock()
		return len(u.pool.waiting) == 0
	}, time.Minute, time.Millisecond, "it was handed over")
	close(let)
	require.ErrorIs(t, <-failed, refused)

	late, _ := newLink(t, key, time.Now().Add(time.Hour))
	freed := u.pool.await(key)
	u.pool.put(late, time.Now())
	u.pool.stopAwaiting(key, freed)
	require.Same(t, late, u.pool.take(key, time.Now()))
}

// TestNotAllWhoWaitConnect: while the handshakes of a proxy take for ever, requests go on over the link
// that exists, and connections whose turn has not come are not begun.
func TestNotAllWhoWaitConnect(t *testing.T) {
	const requests = dialsMost + 10
	stuck := make(chan struct{})
	var dialed atomic.Int32
	u := newUpstreamsWith(func(context.Context, string) (net.Conn, error) {
		dialed.Add(1)
		<-stuck
		return nil, errors.New("too late")
	})
	to := hop{address: "a:1", identity: "spiffe://a/b"}
	got := make(chan *link)
	for range requests {
		go func() {
			l, err := u.obtain(t.Context(), to, nil)
			if err != nil {
				t.Error(err)
			}
			got <- l
		}()
	}
	require.Eventually(t, func() bool { return dialed.Load() == dialsMost && usersOf(u.dialing, to.address) == requests }, time.Minute, time.Millisecond)
	only, _ := newLink(t, keyOf(&to), time.Now().Add(time.Hour))
	for range requests {
		u.pool.put(only, time.Now())
		require.Same(t, only, <-got)
	}
	require.Eventually(t, func() bool { return usersOf(u.dialing, to.address) == dialsMost }, time.Minute, time.Millisecond)
	close(stuck)
	require.Eventually(t, func() bool { return usersOf(u.dialing, to.address) == 0 }, time.Minute, time.Millisecond)
	require.EqualValues(t, dialsMost, dialed.Load())
}

// usersOf is how many open connections or wait for their turn.
func usersOf(d *dialing, address string) int {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if slots := d.slots[address]; slots != nil {
		return slots.users
	}
	return 0
}
