// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"net"
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
		l, err := u.obtain(t.Context(), to)
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
		_, err := u.obtain(t.Context(), hop{address: "a:1"})
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
