// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-mesh/sluice/proxy/http1"
)

// bytesConn is a connection whose client has sent some bytes and left.
type bytesConn struct {
	io.Reader
	written bytes.Buffer
}

func (c *bytesConn) Write(p []byte) (int, error)      { return c.written.Write(p) }
func (c *bytesConn) Close() error                     { return nil }
func (c *bytesConn) LocalAddr() net.Addr              { return nil }
func (c *bytesConn) RemoteAddr() net.Addr             { return nil }
func (c *bytesConn) SetDeadline(time.Time) error      { return nil }
func (c *bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (c *bytesConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzServer has a server read bytes: it ends, what it answers are frames, and a request that it tells
// of could be written as HTTP/1.1 without becoming another.
func FuzzServer(f *testing.F) {
	seed := func(write func(*h2.Framer, func(...string) []byte)) {
		var out, block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		framer := h2.NewFramer(&out, nil)
		framer.AllowIllegalWrites = true
		_ = framer.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 10})
		write(framer, func(fields ...string) []byte {
			block.Reset()
			for i := 0; i+1 < len(fields); i += 2 {
				_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
			}
			return bytes.Clone(block.Bytes())
		})
		f.Add(out.Bytes())
	}
	seed(func(framer *h2.Framer, encode func(...string) []byte) {
		_ = framer.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: encode(get("content-length", "5")...), EndHeaders: true})
		_ = framer.WriteData(1, false, []byte("hello"))
		_ = framer.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: encode("x-sum", "5"), EndHeaders: true, EndStream: true})
		_ = framer.WritePing(false, [8]byte{})
		_ = framer.WriteWindowUpdate(0, 100)
	})
	seed(func(framer *h2.Framer, encode func(...string) []byte) {
		block := encode(get("x-a", "b\r\nc", "Connection", "close")...)
		_ = framer.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:3]})
		_ = framer.WriteContinuation(1, true, block[3:])
		_ = framer.WriteRSTStream(1, h2.ErrCodeCancel)
		_ = framer.WriteGoAway(1, h2.ErrCodeNo, nil)
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		conn := &bytesConn{Reader: io.MultiReader(strings.NewReader(Preface), bytes.NewReader(data))}
		NewServer(conn, Options{Request: func(s *Stream, h *Head, end bool) {
			requireSafe(t, h)
			serveEcho(s, h, end)
		}}).Serve()
		framer := h2.NewFramer(nil, &conn.written)
		for {
			if _, err := framer.ReadFrame(); err != nil {
				if !errors.Is(err, io.EOF) {
					t.Fatalf("what was answered are no frames: %v", err)
				}
				return
			}
		}
	})
}

// requireSafe checks that a head means the same when it is written as HTTP/1.1.
func requireSafe(t *testing.T, h *Head) {
	t.Helper()
	if h.Method == http.MethodConnect {
		return
	}
	var text strings.Builder
	text.WriteString(h.Method + " " + h.Path + " HTTP/1.1\r\nhost: " + h.Authority + "\r\n")
	fields := 1
	for _, field := range h.Fields {
		if field.Name == "expect" {
			continue // HTTP/1.1 has its own rules for it.
		}
		fields++
		text.WriteString(field.Name + ": " + field.Value + "\r\n")
	}
	text.WriteString("\r\n")
	var buffers http1.Buffers
	reader := http1.NewReader(strings.NewReader(text.String()), &buffers, http1.Rules{MaxFields: 1000})
	var request http1.Request
	if err := reader.ReadRequest(&request); err != nil {
		if h.Method == http.MethodTrace || errors.Is(err, http1.ErrTargetByte) {
			return // Content of a TRACE, and % signs, are no other request.
		}
		t.Fatalf("%q is refused: %v", text.String(), err)
	}
	read := 0
	request.Fields(func(_, _ []byte) bool { read++; return true })
	if string(request.Method()) != h.Method || string(request.Target()) != h.Path || read != fields {
		t.Fatalf("%q became %s %s with %d fields", text.String(), request.Method(), request.Target(), read)
	}
}
