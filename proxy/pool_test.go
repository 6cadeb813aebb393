// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/proxy/http1"
)

// newLink returns a link and the other end of its connection.
func newLink(t *testing.T, key linkKey, expires time.Time) (*link, net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	near, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	far, err := listener.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = far.Close() })
	l := linkOver(&upstreamConn{Conn: near}, key)
	l.expires = expires
	l.reader = http1.NewReader(l, &http1.Buffers{}, http1.Rules{})
	t.Cleanup(l.close)
	return l, far
}

func TestLinksThatHaveEndedAreNotUsed(t *testing.T) {
	now := time.Now()
	toApp, toPeer := linkKey{address: "a:1"}, linkKey{address: "a:1", identity: "spiffe://a/b"}
	for name, test := range map[string]struct {
		key   linkKey
		spoil func(*link, net.Conn)
		after time.Duration
		want  bool
	}{
		"fine":                           {toApp, func(*link, net.Conn) {}, 0, true},
		"fine after a while":             {toPeer, func(*link, net.Conn) {}, 100 * time.Millisecond, true},
		"ended by the server":            {toApp, func(_ *link, far net.Conn) { _ = far.Close() }, 0, false},
		"an answer nobody asked for":     {toApp, func(_ *link, far net.Conn) { _, _ = far.Write([]byte("HTTP/1.1 408\r\n")) }, 0, false},
		"ended by a proxy a while ago":   {toPeer, func(_ *link, far net.Conn) { _ = far.Close() }, 100 * time.Millisecond, false},
		"a proxy was heard a moment ago": {toPeer, func(_ *link, far net.Conn) { _ = far.Close() }, freshTime / 2, true},
		"a ticket of a proxy":            {toPeer, func(_ *link, far net.Conn) { _, _ = far.Write([]byte("ticket")) }, 100 * time.Millisecond, true},
		"an answer of a proxy that nobody asked for": {toPeer, func(l *link, far net.Conn) {
			l.conn.bytesRead = 1
			_, _ = far.Write([]byte("HTTP/1.1 408\r\n"))
		}, 100 * time.Millisecond, false},
		"too old": {toApp, func(l *link, _ net.Conn) { l.expires = now }, time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			pool := newLinkPool()
			l, far := newLink(t, test.key, now.Add(time.Hour))
			pool.put(l, now)
			test.spoil(l, far)
			require.Eventually(t, func() bool {
				taken := pool.pop(test.key)
				require.Same(t, l, taken)
				alive := l.alive(now.Add(test.after))
				pool.push(l)
				return alive == test.want
			}, time.Minute, time.Millisecond)
			require.Equal(t, test.want, pool.take(test.key, now.Add(test.after)) == l)
			require.Nil(t, pool.take(test.key, now))
		})
	}
}

func TestIdleLinksAreSwept(t *testing.T) {
	now := time.Now()
	toApp, toPeer := linkKey{address: "a:1"}, linkKey{address: "a:1", identity: "spiffe://a/b"}
	pool := newLinkPool()
	app, _ := newLink(t, toApp, now.Add(time.Hour))
	later, _ := newLink(t, toApp, now.Add(time.Hour))
	peer, _ := newLink(t, toPeer, now.Add(time.Hour))
	pool.put(app, now)
	pool.put(peer, now)
	pool.put(later, now.Add(idleToApp/2))
	pool.sweep(now.Add(idleToApp))
	require.Same(t, later, pool.pop(toApp), "the newest is used first and kept longest")
	require.Nil(t, pool.pop(toApp))
	require.Same(t, peer, pool.pop(toPeer))
	pool.close()
	pool.put(peer, now)
	require.Nil(t, pool.pop(toPeer), "nothing is kept when the proxy ends")
}

func TestPoolsAreBounded(t *testing.T) {
	pool := newLinkPool()
	key := linkKey{address: "a:1"}
	pool.links[key] = make([]*link, idlePerEndpoint)
	require.False(t, pool.push(&link{key: key}))
}
