// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

func TestLimits(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(milliseconds int) time.Time { return start.Add(time.Duration(milliseconds) * time.Millisecond) }
	for name, test := range map[string]struct {
		timeouts mesh.Timeouts
		// tried and sent are when a try began and was sent, moved when a byte went; -1 for not yet.
		tried, sent, moved int
		want               time.Time
		code               string
	}{
		"none":                         {mesh.Timeouts{}, 0, 0, 0, time.Time{}, ""},
		"request alone":                {mesh.Timeouts{Request: 100}, 50, 60, 70, at(100), errorRequestTime},
		"a try is over before":         {mesh.Timeouts{Request: 100, Try: 30}, 50, 60, 70, at(80), errorTryTime},
		"the request is over before":   {mesh.Timeouts{Request: 100, Try: 60}, 50, 60, 70, at(100), errorRequestTime},
		"idle counts from the sending": {mesh.Timeouts{Request: 100, Idle: 20}, 50, 60, -1, at(80), errorIdleTime},
		"and from each byte":           {mesh.Timeouts{Request: 100, Idle: 20}, 50, 60, 75, at(95), errorIdleTime},
		"but not before":               {mesh.Timeouts{Idle: 20}, 50, -1, -1, time.Time{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var l limits
			l.begin(test.timeouts, start)
			l.beginTry(at(test.tried))
			if test.sent >= 0 {
				l.send(at(test.sent))
			}
			if test.moved >= 0 {
				l.moved.Store(at(test.moved).UnixNano())
			}
			got, code := l.next()
			require.True(t, test.want.Equal(got), "%v", got)
			if test.want.IsZero() {
				require.False(t, l.pass(at(1_000_000)))
				return
			}
			require.Equal(t, test.code, code)
			require.False(t, l.pass(test.want.Add(-1)))
			require.True(t, l.pass(test.want))
			require.Equal(t, test.code, l.passed)
			l.clear()
			require.False(t, l.pass(at(1_000_000)))
		})
	}
}

// TestLimitsMakeNoGarbage: a request with timeouts costs no more than one without.
func TestLimitsMakeNoGarbage(t *testing.T) {
	var l limits
	defer l.stop()
	tick := func() {}
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		now := time.Now()
		l.clear()
		l.begin(mesh.Timeouts{Request: 60_000, Try: 30_000, Idle: 20_000}, now)
		l.beginTry(now)
		l.send(now)
		l.arm(now, tick)
		l.lift()
	}))
}

// TestOverloadIsSaidOverHTTP2: as it is over HTTP/1.1.
func TestOverloadIsSaidOverHTTP2(t *testing.T) {
	const address, endpoint = "10.9.9.9:80", "10.9.9.10:80"
	p := New(Options{})
	p.config.set(&mesh.Snapshot{Destinations: map[string]*mesh.Destination{address: {
		Address: address, Endpoints: []mesh.Endpoint{{Address: endpoint, Ready: true}},
	}}})
	p.upstreams.dialing.slots[endpoint] = &dialSlots{taken: make(chan struct{}, 1), users: dialersMost}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.serving.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		served := &servedConn{Conn: conn, info: connInfo{destination: netip.MustParseAddrPort(address), address: address}}
		p.serveStreams(context.Background(), served, p.beginOutboundStream, true)
	})
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", listener.Addr().String())
		},
	}}
	response, err := client.Get("http://" + address + "/")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.Equal(t, errorOverload, response.Header.Get("Sluice-Error"))
	client.CloseIdleConnections()
	require.NoError(t, listener.Close())
	p.upstreams.trunks.close()
	p.serving.Wait()
}
