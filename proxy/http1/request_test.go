// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func TestRequestsAreWrittenAnew(t *testing.T) {
	for name, test := range map[string]struct{ in, out string }{
		"plain": {
			"GET /a?b HTTP/1.1\r\nHost: a\r\nAccept:*/* \r\n\r\n",
			"GET /a?b HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
		},
		"http/1.0 without a host": {
			"GET / HTTP/1.0\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: original.example\r\n\r\n",
		},
		"an empty host stays empty": {
			"GET / HTTP/1.1\r\nHost:\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: \r\n\r\n",
		},
		"absolute form": {
			"GET http://a/x HTTP/1.1\r\nHost: A:80\r\n\r\n",
			"GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
		},
		"what belongs to the connection stays behind": {
			"GET / HTTP/1.1\r\nConnection: keep-alive, X-Hop, te\r\nHost: a\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip, trailers\r\nTrailer: X\r\nX-End: 2\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nX-End: 2\r\nConnection: TE\r\nTE: trailers\r\n\r\n",
		},
		"what a forward proxy would take passes": {
			"GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: x\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: x\r\n\r\n",
		},
		"the mesh's own fields": {
			"GET / HTTP/1.1\r\nHost: a\r\nSluice-Client-Id: x\r\nsluice-handoff: 1\r\nSluice-Error: y\r\nSluiceX: z\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nSluiceX: z\r\n\r\n",
		},
		"length": {
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nhello",
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
		},
		"length zero": {
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
		},
		"chunks without extensions, with trailers": {
			"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: Chunked\r\n\r\n03;x=y\r\nabc\r\n1\r\nd\r\n0;z\r\nX-Sum:  1\r\nSluice-X: 1\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\nX-Sum: 1\r\n\r\n",
		},
		"upgrade": {
			"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		},
		"upgrade that Connection does not name": {
			"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		},
		"upgrade in http/1.0": {
			"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		},
		"expectation": {
			"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
			"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
		},
		"expectation with nothing to wait with": {
			"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			messages, err := read([]byte(test.in), sideRequest, Rules{})
			require.NoError(t, err)
			require.Len(t, messages, 1)
			require.Equal(t, test.out, string(messages[0].sent))
		})
	}
}

func TestKeepAlive(t *testing.T) {
	for in, want := range map[string]bool{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n":                                     true,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":                false,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n":             false,
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n":    false,
		"GET / HTTP/1.0\r\n\r\n":                                                false,
		"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n":                      true,
		"GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n": false,
		"GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n":                false,
	} {
		messages, err := read([]byte(in), sideRequest, Rules{})
		require.NoError(t, err)
		require.Equal(t, want, messages[0].keepsAlive, in)
	}
}

func TestAuditLetsPassWhatCanBeReadInOneWay(t *testing.T) {
	for name, test := range map[string]struct {
		in, out string
		found   Error
	}{
		"folded field": {
			"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz \r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nX: y  \tz\r\n\r\n", ErrFold,
		},
		"folded field that begins empty": {
			"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n z\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nX: z\r\n\r\n", ErrFold,
		},
		"folded field that stays empty": {
			"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n \r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n", ErrFold,
		},
		"control byte": {
			"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n", ErrFieldControl,
		},
		"no host": {
			"GET / HTTP/1.1\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: original.example\r\n\r\n", ErrHostMissing,
		},
		"target in UTF-8": {
			"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
			"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", ErrTargetByte,
		},
		"strange expectation": {
			"POST / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\nx",
			"POST / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\nx", ErrExpect,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read([]byte(test.in), sideRequest, Rules{})
			require.ErrorIs(t, err, test.found)
			messages, err := read([]byte(test.in), sideRequest, Rules{Audit: true})
			require.NoError(t, err)
			require.Len(t, messages, 1)
			require.Equal(t, test.out, string(messages[0].sent))
			var found []Error
			messages[0].found.All(func(e Error) bool { found = append(found, e); return true })
			require.Equal(t, []Error{test.found}, found)
		})
	}
}

func TestLimits(t *testing.T) {
	field := "X: " + strings.Repeat("y", 100) + "\r\n"
	for name, test := range map[string]struct {
		in    string
		rules Rules
		want  error
	}{
		"fits exactly":         {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Rules{MaxHead: 28}, nil},
		"one byte too many":    {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Rules{MaxHead: 26}, ErrHeadLarge},
		"large by default":     {"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat(field, 200) + "\r\n", Rules{}, nil},
		"too large by default": {"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 64<<10) + "\r\n\r\n", Rules{}, ErrHeadLarge},
		"endless line":         {"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 200<<10), Rules{}, ErrHeadLarge},
		"endless target":       {"GET /" + strings.Repeat("y", 200<<10), Rules{}, ErrTargetLong},
		"larger when told":     {"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 200<<10) + "\r\n\r\n", Rules{MaxHead: 1 << 20}, nil},
		"many fields":          {"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 256) + "\r\n", Rules{}, ErrFieldsMany},
		"few fields":           {"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n", Rules{MaxFields: 1}, ErrFieldsMany},
		"endless trailers": {
			"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + strings.Repeat("y", 64<<10) + "\r\n\r\n", Rules{}, ErrHeadLarge,
		},
		"many trailers": {
			"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("X: y\r\n", 257) + "\r\n", Rules{}, ErrFieldsMany,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read([]byte(test.in), sideRequest, test.rules)
			require.Equal(t, test.want, err)
		})
	}
}

// TestPiecesDoNotMatter reads the whole corpus in pieces of every kind.
func TestPiecesDoNotMatter(t *testing.T) {
	for _, test := range readCorpus(t) {
		if test.from != sideRequest {
			continue
		}
		whole, wholeError := requests(bytes.NewReader(test.data))
		for _, pieces := range []io.Reader{
			iotest.OneByteReader(bytes.NewReader(test.data)),
			iotest.HalfReader(bytes.NewReader(test.data)),
			iotest.DataErrReader(bytes.NewReader(test.data)),
		} {
			got, err := requests(pieces)
			require.Equal(t, whole, got, "%q", test.data)
			require.Equal(t, wholeError, err, "%q", test.data)
		}
	}
}

// requests reads requests and returns their content, one after the other.
func requests(source io.Reader) ([]string, error) {
	var buffers Buffers
	reader := NewReader(source, &buffers, Rules{})
	var all []string
	var request Request
	for {
		if err := reader.ReadRequest(&request); err != nil {
			return all, err
		}
		content := string(request.Method()) + " "
		for !reader.Ended() {
			data, err := reader.Next()
			content += string(data)
			if err != nil && !errors.Is(err, io.EOF) {
				return all, err
			}
		}
		// The head must still be there, whatever the content has done to the buffer.
		content += " " + string(request.Value("host"))
		reader.Trailers(func(name, value []byte) bool { content += " " + string(name) + string(value); return true })
		all = append(all, content)
		if request.IsMethod("CONNECT") {
			return all, nil
		}
	}
}

func TestLargeContent(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	chunked := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n" + string(content) + "\r\n0\r\nX: y\r\n\r\n"
	length := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n" + string(content)
	got, err := requests(iotest.HalfReader(strings.NewReader(chunked + length)))
	require.ErrorIs(t, err, io.EOF)
	require.Len(t, got, 2)
	require.True(t, got[0] == "POST "+string(content)+" a Xy")
	require.True(t, got[1] == "POST "+string(content)+" a")
}

// TestContentIsNotHeldBack has a writer flushed before its reader waits.
func TestContentIsNotHeldBack(t *testing.T) {
	var buffers Buffers
	in, feed := io.Pipe()
	taken, out := io.Pipe()
	reader, writer := NewReader(in, &buffers, Rules{}), NewWriter(out, &buffers)
	reader.FlushBeforeRead(writer)
	done := make(chan error, 1)
	go func() {
		var response Response
		err := reader.ReadResponse(&response, Asked{})
		writer.Response(&response, Sending{Framing: ByChunks})
		writer.EndHead()
		for err == nil {
			var data []byte
			if data, err = reader.Next(); err == nil {
				err = writer.Content(data)
			}
		}
		writer.EndContent(reader)
		done <- errors.Join(ended(err), writer.Flush(), out.Close())
	}()
	expect := func(want string) {
		got := make([]byte, len(want))
		_, err := io.ReadFull(taken, got)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	for _, step := range [][2]string{
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"3\r\nab", "2\r\nab\r\n"},
		{"c\r\n2\r", "1\r\nc\r\n"},
		{"\nde\r\n1\r\nf\r\n0\r\n\r\n", "2\r\nde\r\n1\r\nf\r\n"},
	} {
		_, err := io.WriteString(feed, step[0])
		require.NoError(t, err)
		expect(step[1])
	}
	require.NoError(t, feed.Close())
	expect("0\r\n\r\n")
	require.NoError(t, <-done)
}

func TestErrorsAreDescribed(t *testing.T) {
	names := map[string]bool{}
	for e := Error(1); int(e) < errorCount; e++ {
		require.NotEqual(t, "unknown", e.Name(), "%d", e)
		require.NotEmpty(t, e.Name(), "%d", e)
		require.False(t, names[e.Name()], e.Name())
		names[e.Name()] = true
		require.GreaterOrEqual(t, e.Status(), 400)
	}
}

// TestPinnedHeadsStay reads content while the head is looked at.
func TestPinnedHeadsStay(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 64<<10)
	head := "POST / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 7<<10) + "\r\nTransfer-Encoding: chunked\r\n\r\n"
	var buffers Buffers
	reader := NewReader(iotest.HalfReader(strings.NewReader(head+"100000\r\n"+content+"\r\n0\r\nX: y\r\n\r\n")), &buffers, Rules{})
	var request Request
	require.NoError(t, reader.ReadRequest(&request))
	reader.Pin()
	host := request.Host()
	got := 0
	for !reader.Ended() {
		data, err := reader.Next()
		got += len(data)
		if !errors.Is(err, io.EOF) {
			require.NoError(t, err)
		}
		require.Same(t, &host[0], &request.Host()[0])
	}
	require.Equal(t, len(content), got)
	require.Equal(t, "a", string(host))
	require.Equal(t, [][2]string{{"x", "y"}}, list(reader.Trailers))
}
