// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/http1"
)

// writesUntil is a client's connection that knows until when it may be written to.
type writesUntil struct {
	net.Conn
	until time.Time
}

func (c *writesUntil) SetWriteDeadline(until time.Time) error {
	c.until = until
	return nil
}

func (c *writesUntil) Write(p []byte) (int, error) {
	if !c.until.IsZero() && time.Now().After(c.until) {
		return 0, os.ErrDeadlineExceeded
	}
	return len(p), nil
}

// TestTheBeginningOfAnAnswerIsTold: when the time is up between the head of an answer and its way to the
// client, the client sees an answer that breaks off, not a connection that does.
func TestTheBeginningOfAnAnswerIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		// interim says that a head that is not the answer's was told, headed that the head has come, told that
		// it was told before the time was up.
		interim, headed, told bool
		// want is whether the beginning can be told after that, and the rest.
		beginning, rest bool
	}{
		"before the head, which gets another answer": {beginning: true, rest: true},
		"after an interim answer as well":            {interim: true, beginning: true, rest: true},
		"after the head":                             {headed: true, beginning: true},
		"after the head that follows an interim one": {interim: true, headed: true, beginning: true},
		"after it was told":                          {headed: true, told: true},
	} {
		t.Run(name, func(t *testing.T) {
			conn := &writesUntil{}
			c := New(Options{}).newClient(&servedConn{Conn: conn}, nil)
			x := &c.exchange
			x.reset(context.Background(), c)
			x.limit(mesh.Timeouts{Request: 60_000})
			defer x.stopTime()
			tell := func(status int) error {
				c.writer.Status(status, "", http1.NoContent)
				c.writer.EndHead()
				return c.writer.Flush()
			}
			if test.interim {
				require.NoError(t, tell(http.StatusEarlyHints))
			}
			if test.headed {
				require.NoError(t, x.noteHead())
			}
			if test.told {
				require.NoError(t, tell(http.StatusOK))
			}
			x.limits.request = time.Now()
			x.lookAtTime()
			require.Equal(t, errorRequestTime, x.limits.passed)
			if test.headed {
				require.False(t, conn.until.IsZero(), "who does not read would be waited for without an end")
			}
			for _, want := range []bool{test.beginning, test.rest} {
				if want {
					require.NoError(t, tell(http.StatusOK))
				} else {
					require.ErrorIs(t, tell(http.StatusOK), os.ErrDeadlineExceeded)
				}
			}
		})
	}
}

// TestWhatAnUpgradeHasMadeOfAConnectionHasMetTheTime that is up when it has just been agreed to.
func TestWhatAnUpgradeHasMadeOfAConnectionHasMetTheTime(t *testing.T) {
	clientConn, client := net.Pipe()
	appConn, app := net.Pipe()
	p := New(Options{})
	c := p.newClient(&servedConn{Conn: clientConn}, nil)
	l := linkOver(&upstreamConn{Conn: appConn}, linkKey{address: "a:1"})
	l.reader, l.writer = http1.NewReader(l, &p.messages, http1.Rules{}), http1.NewWriter(l, &p.messages)
	x := &c.exchange
	x.reset(context.Background(), c)
	x.limit(mesh.Timeouts{Request: 60_000})
	defer x.stopTime()
	require.True(t, x.use(l))
	go func() {
		_, _ = io.WriteString(app, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n")
	}()
	require.NoError(t, l.reader.ReadResponse(&l.response, http1.Asked{Upgrade: true}))
	require.NoError(t, x.noteHead())
	x.limits.request = time.Now()
	x.lookAtTime()
	require.Equal(t, errorRequestTime, x.limits.passed)
	done := make(chan struct{})
	go func() {
		defer close(done)
		x.tunnel(l)
	}()
	response, err := http.ReadResponse(bufio.NewReader(client), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	require.NoError(t, response.Body.Close())
	for from, to := range map[net.Conn]net.Conn{app: client, client: app} {
		require.NoError(t, to.SetReadDeadline(time.Now().Add(time.Minute)))
		go func() { _, _ = io.WriteString(from, "bytes") }()
		got := make([]byte, len("bytes"))
		_, err = io.ReadFull(to, got)
		require.NoError(t, err)
		require.Equal(t, "bytes", string(got))
	}
	require.NoError(t, client.Close())
	require.NoError(t, app.Close())
	<-done
}
