// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"io"
	"net"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func TestGreetings(t *testing.T) {
	for name, test := range map[string]struct {
		first      string
		heard, old bool
	}{
		"settings":         {"\x00\x00\x06\x04\x00\x00\x00\x00\x00", true, false},
		"HTTP/1.1":         {"HTTP/1.1 400 Bad Request\r\n\r\n", true, true},
		"HTTP/1.0":         {"HTTP/1.0 505 \r\n\r\n", true, true},
		"something else":   {"-ERR unknown command\r\n", true, false},
		"almost":           {"HTTP/2.0 200 OK\r\n\r\n", true, false},
		"nothing":          {"", false, false},
		"ends too early":   {"HTTP", false, false},
		"ends in a moment": {"HTTP/1.", true, true},
	} {
		for pace, slowed := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader,
		} {
			t.Run(name+" "+pace, func(t *testing.T) {
				here, there := net.Pipe()
				defer here.Close()
				go func() {
					_, _ = io.WriteString(there, test.first)
					_ = there.Close()
				}()
				conn := newGreetedConn(&upstreamConn{Conn: readFrom{here, slowed(here)}})
				first := make([]byte, 9)
				n, err := conn.Read(first)
				select {
				case <-conn.heard:
					require.True(t, test.heard)
				default:
					require.False(t, test.heard)
					require.ErrorIs(t, conn.silence, io.EOF)
				}
				require.Equal(t, test.old, conn.old)
				if test.old {
					require.ErrorIs(t, err, errOnlyHTTP1)
					require.Zero(t, n)
					return
				}
				rest, _ := io.ReadAll(conn)
				require.Equal(t, test.first, string(first[:n])+string(rest))
			})
		}
	}
}

// readFrom is a connection that is read by way of something else.
type readFrom struct {
	net.Conn
	reader io.Reader
}

func (r readFrom) Read(p []byte) (int, error) { return r.reader.Read(p) }
