// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWhatIsAskedAtOnce: a request leaves on a link that was idle, unless that has ended or was sent
// something that nobody has asked for.
func TestWhatIsAskedAtOnce(t *testing.T) {
	const asked, answer = "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"
	answers := func(far net.Conn) {
		_, _ = io.ReadFull(far, make([]byte, len(asked)))
		_, _ = io.WriteString(far, answer)
	}
	keepsQuiet := func(net.Conn) {}
	for name, test := range map[string]struct {
		spoil    func(*testing.T, *link, net.Conn)
		answer   func(net.Conn)
		deadline time.Duration
		want     error
		read     error
	}{
		"answered":    {answer: answers, deadline: time.Minute},
		"not in time": {answer: keepsQuiet, deadline: 10 * time.Millisecond, read: os.ErrDeadlineExceeded},
		"the time was up before, and is set anew by who reads": {answer: answers, deadline: -time.Second, read: os.ErrDeadlineExceeded},
		"ended": {answer: keepsQuiet, deadline: time.Minute, want: errIdleEnded, spoil: func(t *testing.T, l *link, far net.Conn) {
			require.NoError(t, far.(*net.TCPConn).CloseWrite())
			require.Eventually(t, l.ended, time.Minute, time.Millisecond)
		}},
		"an answer nobody asked for": {answer: keepsQuiet, deadline: time.Minute, want: errIdleEnded, spoil: func(t *testing.T, l *link, far net.Conn) {
			_, err := io.WriteString(far, answer)
			require.NoError(t, err)
			require.Eventually(t, l.ended, time.Minute, time.Millisecond)
		}},
		"closed here": {answer: keepsQuiet, deadline: time.Minute, want: errIdleEnded, spoil: func(t *testing.T, l *link, _ net.Conn) {
			require.NoError(t, l.conn.Close())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l, far := newLink(t, linkKey{address: "a:1"}, time.Now().Add(time.Hour))
			if test.spoil != nil {
				test.spoil(t, l, far)
			}
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				test.answer(far)
			}()
			_ = l.conn.SetReadDeadline(time.Now().Add(test.deadline))
			l.idle, l.unseen, l.whole = true, true, true
			n, err := l.Write([]byte(asked))
			require.ErrorIs(t, err, test.want)
			if test.want != nil {
				require.Zero(t, n)
				require.Zero(t, l.conn.bytesWritten.Load(), "nothing was sent")
				<-answered
				return
			}
			require.Equal(t, len(asked), n)
			got := make([]byte, 64)
			n, err = l.conn.Read(got)
			require.ErrorIs(t, err, test.read)
			if test.read == nil {
				require.Equal(t, answer, string(got[:n]))
			}
			<-answered
		})
	}
}

// TestWritesAfterTheFirst: only what is written first to a link that was idle looks at it.
func TestWritesAfterTheFirst(t *testing.T) {
	l, far := newLink(t, linkKey{address: "a:1"}, time.Now().Add(time.Hour))
	l.idle, l.unseen = true, true
	for _, part := range []string{"POST", " / "} {
		_, err := l.Write([]byte(part))
		require.NoError(t, err)
		got := make([]byte, len(part))
		_, err = io.ReadFull(far, got)
		require.NoError(t, err)
		require.Equal(t, part, string(got))
		_, err = io.WriteString(far, "an early answer")
		require.NoError(t, err)
		require.Eventually(t, l.ended, time.Minute, time.Millisecond)
	}
}
