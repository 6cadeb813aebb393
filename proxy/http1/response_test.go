// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestResponses(t *testing.T) {
	for name, test := range map[string]struct {
		in       string
		asked    Asked
		version0 bool // The client speaks HTTP/1.0.
		out      string
		keeps    bool
		framing  Framing
	}{
		"length": {
			in:  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nhi",
			out: "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\n\r\nhi", keeps: true, framing: ByLength,
		},
		"no reason": {
			in:  "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
			out: "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", keeps: true, framing: ByLength,
		},
		"chunks": {
			in:  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n",
			out: "HTTP/1.1 200 OK\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n", keeps: true, framing: ByChunks,
		},
		"chunks to an old client": {
			in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n", version0: true,
			out: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi", keeps: true, framing: ByChunks,
		},
		"until the end": {
			in:  "HTTP/1.1 200 OK\r\n\r\nhi",
			out: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", framing: UntilClose,
		},
		"http/1.0": {
			in:  "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
			out: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", framing: ByLength,
		},
		"http/1.0 that keeps alive": {
			in:  "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
			out: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", keeps: true, framing: ByLength,
		},
		"close": {
			in:  "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nhi",
			out: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", framing: ByLength,
		},
		"to head": {
			in: "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", asked: Asked{Head: true},
			out: "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", keeps: true,
		},
		"to head, chunked": {
			in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", asked: Asked{Head: true},
			out: "HTTP/1.1 200 OK\r\n\r\n", keeps: true,
		},
		"not modified": {
			in:  "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
			out: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", keeps: true,
		},
		"no content": {
			in:  "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
			out: "HTTP/1.1 204 No Content\r\n\r\n", keeps: true,
		},
		"interim": {
			in:  "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
			out: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", keeps: true,
		},
		"upgrade": {
			in: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", asked: Asked{Upgrade: true},
			out: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", framing: Tunnel,
		},
		"tunnel": {
			in: "HTTP/1.1 200 OK\r\n\r\n", asked: Asked{Connect: true},
			out: "HTTP/1.1 200 OK\r\n\r\n", framing: Tunnel,
		},
		"tunnel refused": {
			in: "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", asked: Asked{Connect: true},
			out: "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", keeps: true, framing: ByLength,
		},
		"a server cannot speak for the mesh": {
			in:  "HTTP/1.1 200 OK\r\nSluice-Error: x\r\nContent-Length: 0\r\n\r\n",
			out: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", keeps: true, framing: ByLength,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var buffers Buffers
			var response Response
			var sent bytes.Buffer
			reader, writer := NewReader(strings.NewReader(test.in), &buffers, Rules{}), NewWriter(&sent, &buffers)
			require.NoError(t, reader.ReadResponse(&response, test.asked))
			require.Equal(t, test.keeps, response.KeepsAlive())
			require.Equal(t, test.framing, response.Framing())
			framing := response.FramingTo(!test.version0)
			writer.Response(&response, Sending{Skip: Owned, Framing: framing, Close: framing == UntilClose})
			writer.EndHead()
			for {
				data, err := reader.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				require.NoError(t, writer.Content(data))
			}
			writer.EndContent(reader)
			require.NoError(t, writer.Flush())
			require.Equal(t, test.out, sent.String())
		})
	}
}

func TestUpgradesNobodyAskedForAreRefused(t *testing.T) {
	var buffers Buffers
	var response Response
	reader := NewReader(strings.NewReader("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), &buffers, Rules{})
	require.ErrorIs(t, reader.ReadResponse(&response, Asked{}), ErrUpgrade)
}
