// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers each request with its content and its trailers.
type echo struct{ stream *Stream }

func (e *echo) Head(h *Head, _ bool) { e.stream.SendTrailers(h.Fields) }
func (e *echo) Data(data []byte, end bool) {
	e.stream.SendData(data, end)
}
func (e *echo) Sent(n int)  { e.stream.Consumed(n) }
func (e *echo) Ended(error) {}

func serveEcho(s *Stream, h *Head, end bool) {
	s.Receive(&echo{s})
	s.SendHead(&Head{Status: 200, Fields: []hpack.HeaderField{{Name: "x-path", Value: h.Path}}}, end)
}

// peer speaks frames to a Conn.
type peer struct {
	t      *testing.T
	conn   net.Conn
	framer *h2.Framer
	block  bytes.Buffer
	hpack  *hpack.Encoder
	wrong  []MalformedError
	mutex  sync.Mutex
}

// newPeer is a client of a server that is made of the options.
func newPeer(t *testing.T, options Options) *peer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	p := &peer{t: t}
	if options.Request == nil {
		options.Request = serveEcho
	}
	options.Refused = func(why MalformedError) {
		p.mutex.Lock()
		defer p.mutex.Unlock()
		p.wrong = append(p.wrong, why)
	}
	p.conn, err = net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	accepted, err := listener.Accept()
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		NewServer(accepted, options).Serve()
	}()
	t.Cleanup(func() {
		_ = p.conn.Close()
		<-done
	})
	require.NoError(t, p.conn.SetDeadline(time.Now().Add(time.Minute)))
	p.framer = h2.NewFramer(p.conn, p.conn)
	p.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.framer.AllowIllegalWrites = true
	p.hpack = hpack.NewEncoder(&p.block)
	_, err = io.WriteString(p.conn, Preface)
	require.NoError(t, err)
	require.NoError(t, p.framer.WriteSettings())
	return p
}

func tcpPair(t *testing.T) (client, accepted *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	dialed, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	other, err := listener.Accept()
	require.NoError(t, err)
	return dialed.(*net.TCPConn), other.(*net.TCPConn)
}

// encode compresses fields that are given as pairs.
func (p *peer) encode(fields ...string) []byte {
	p.block.Reset()
	for pair := range slices.Chunk(fields, 2) {
		require.NoError(p.t, p.hpack.WriteField(hpack.HeaderField{Name: pair[0], Value: pair[1]}))
	}
	return bytes.Clone(p.block.Bytes())
}

func get(more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "shop"}, more...)
}

// ask sends a head; errors of writing show in what is read.
func (p *peer) ask(id uint32, end bool, fields ...string) {
	_ = p.framer.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(fields...), EndStream: end, EndHeaders: true})
}

// until reads frames until one is wanted, and acknowledges settings.
func (p *peer) until(wanted func(h2.Frame) bool) (h2.Frame, error) {
	for {
		frame, err := p.framer.ReadFrame()
		if err != nil {
			return nil, err
		}
		if settings, ok := frame.(*h2.SettingsFrame); ok && !settings.IsAck() {
			_ = p.framer.WriteSettingsAck()
		}
		if wanted(frame) {
			return frame, nil
		}
	}
}

// awaitReset returns with which code a stream is reset.
func (p *peer) awaitReset(id uint32) h2.ErrCode {
	p.t.Helper()
	frame, err := p.until(func(f h2.Frame) bool {
		_, ok := f.(*h2.RSTStreamFrame)
		return ok && f.Header().StreamID == id
	})
	require.NoError(p.t, err)
	return frame.(*h2.RSTStreamFrame).ErrCode
}

// awaitStatus returns the status of a stream's answer.
func (p *peer) awaitStatus(id uint32) string {
	p.t.Helper()
	frame, err := p.until(func(f h2.Frame) bool {
		_, ok := f.(*h2.MetaHeadersFrame)
		return ok && f.Header().StreamID == id
	})
	require.NoError(p.t, err)
	return frame.(*h2.MetaHeadersFrame).PseudoValue("status")
}

func TestMalformedRequestsAreReset(t *testing.T) {
	for name, test := range map[string]struct {
		fields []string
		want   MalformedError
	}{
		"capital letters":        {get("X-A", "b"), ErrFieldName},
		"space in a name":        {get("x a", "b"), ErrFieldName},
		"colon in a name":        {get("x:a", "b"), ErrFieldName},
		"CR in a name":           {get("x\ra", "b"), ErrFieldName},
		"LF in a name":           {get("x\na", "b"), ErrFieldName},
		"NUL in a name":          {get("x\x00a", "b"), ErrFieldName},
		"no name":                {get("", "b"), ErrFieldName},
		"CR in a value":          {get("x-a", "b\rc"), ErrFieldValue},
		"LF in a value":          {get("x-a", "b\nc"), ErrFieldValue},
		"another request inside": {get("x-a", "b\r\n\r\nGET /admin HTTP/1.1\r\nHost: a"), ErrFieldValue},
		"NUL in a value":         {get("x-a", "b\x00c"), ErrFieldValue},
		"DEL in a value":         {get("x-a", "b\x7fc"), ErrFieldValue},
		"connection":             {get("connection", "close"), ErrConnection},
		"keep-alive":             {get("keep-alive", "timeout=5"), ErrConnection},
		"proxy-connection":       {get("proxy-connection", "close"), ErrConnection},
		"transfer-encoding":      {get("transfer-encoding", "chunked"), ErrConnection},
		"upgrade":                {get("upgrade", "websocket"), ErrConnection},
		"te":                     {get("te", "gzip"), ErrConnection},
		"te and more":            {get("te", "trailers, gzip"), ErrConnection},
		"status in a request":    {get(":status", "200"), ErrPseudo},
		"unknown pseudo":         {get(":protocol", "websocket"), ErrPseudo},
		"pseudo after a field":   {[]string{":method", "GET", ":scheme", "http", ":authority", "shop", "x-a", "b", ":path", "/"}, ErrPseudo},
		"method twice":           {get(":method", "GET"), ErrPseudo},
		"path twice":             {get(":path", "/admin"), ErrPseudo},
		"authority twice":        {get(":authority", "other"), ErrPseudo},
		"no method":              {[]string{":scheme", "http", ":path", "/", ":authority", "shop"}, ErrMethod},
		"no scheme":              {[]string{":method", "GET", ":path", "/", ":authority", "shop"}, ErrPseudo},
		"no path":                {[]string{":method", "GET", ":scheme", "http", ":authority", "shop"}, ErrPseudo},
		"no authority":           {[]string{":method", "GET", ":scheme", "http", ":path", "/"}, ErrAuthority},
		"empty path":             {[]string{":method", "GET", ":scheme", "http", ":path", "", ":authority", "shop"}, ErrPath},
		"relative path":          {[]string{":method", "GET", ":scheme", "http", ":path", "a", ":authority", "shop"}, ErrPath},
		"absolute path":          {[]string{":method", "GET", ":scheme", "http", ":path", "http://other/", ":authority", "shop"}, ErrPath},
		"star":                   {[]string{":method", "GET", ":scheme", "http", ":path", "*", ":authority", "shop"}, ErrPath},
		"space in a path":        {[]string{":method", "GET", ":scheme", "http", ":path", "/a HTTP/1.1", ":authority", "shop"}, ErrPath},
		"fragment":               {[]string{":method", "GET", ":scheme", "http", ":path", "/a#b", ":authority", "shop"}, ErrPath},
		"LF in a path":           {[]string{":method", "GET", ":scheme", "http", ":path", "/\nX: y", ":authority", "shop"}, ErrFieldValue},
		"space in a method":      {[]string{":method", "GET /admin", ":scheme", "http", ":path", "/", ":authority", "shop"}, ErrMethod},
		"CR in a method":         {[]string{":method", "GET\r", ":scheme", "http", ":path", "/", ":authority", "shop"}, ErrFieldValue},
		"space in a scheme":      {[]string{":method", "GET", ":scheme", "http x", ":path", "/", ":authority", "shop"}, ErrScheme},
		"a scheme with a host":   {[]string{":method", "GET", ":scheme", "http://x", ":path", "/", ":authority", "shop"}, ErrScheme},
		"user in the authority":  {[]string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a@shop"}, ErrAuthority},
		"two authorities":        {[]string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a,b"}, ErrAuthority},
		"another host":           {get("host", "other"), ErrHost},
		"host twice":             {get("host", "shop", "host", "shop"), ErrHost},
		"CONNECT with a path":    {[]string{":method", "CONNECT", ":path", "/", ":authority", "shop:1"}, ErrPseudo},
		"CONNECT with a scheme":  {[]string{":method", "CONNECT", ":scheme", "http", ":authority", "shop:1"}, ErrPseudo},
		"CONNECT without a port": {[]string{":method", "CONNECT", ":authority", "shop"}, ErrAuthority},
		"length twice":           {get("content-length", "0", "content-length", "0"), ErrLength},
		"length list":            {get("content-length", "0, 0"), ErrLength},
		"signed length":          {get("content-length", "+0"), ErrLength},
		"negative length":        {get("content-length", "-1"), ErrLength},
		"hexadecimal length":     {get("content-length", "0x0"), ErrLength},
		"long length":            {get("content-length", "99999999999999999999"), ErrLength},
		"length without content": {get("content-length", "5"), ErrLength},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, Options{Request: func(*Stream, *Head, bool) { t.Error("it was carried") }})
			p.ask(1, true, test.fields...)
			require.Equal(t, h2.ErrCodeProtocol, p.awaitReset(1))
			p.mutex.Lock()
			defer p.mutex.Unlock()
			require.Equal(t, []MalformedError{test.want}, p.wrong)
		})
	}
}

func TestContentMustBeAsLongAsItsLength(t *testing.T) {
	for name, test := range map[string]struct {
		pieces []string
		wrong  bool
	}{
		"right":    {[]string{"he", "llo"}, false},
		"short":    {[]string{"he"}, true},
		"long":     {[]string{"hello", "x"}, true},
		"too long": {[]string{"hello GET /admin HTTP/1.1"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, Options{})
			p.ask(1, false, get("content-length", "5")...)
			for i, piece := range test.pieces {
				_ = p.framer.WriteData(1, i == len(test.pieces)-1, []byte(piece))
			}
			if test.wrong {
				require.Equal(t, h2.ErrCodeProtocol, p.awaitReset(1))
				return
			}
			_, err := p.until(func(f h2.Frame) bool {
				data, ok := f.(*h2.DataFrame)
				return ok && data.StreamEnded()
			})
			require.NoError(t, err)
		})
	}
}

func TestHeadsAndTrailersGoThrough(t *testing.T) {
	p := newPeer(t, Options{})
	// A head in three frames, with a host that says the same and blanks around a value.
	block := p.encode(get("host", "SHOP", "x-a", "  b ", "te", "trailers")...)
	require.NoError(t, p.framer.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:2]}))
	require.NoError(t, p.framer.WriteContinuation(1, false, block[2:5]))
	require.NoError(t, p.framer.WriteContinuation(1, true, block[5:]))
	require.Equal(t, "200", p.awaitStatus(1))
	require.NoError(t, p.framer.WriteDataPadded(1, false, []byte("hello"), make([]byte, 100)))
	p.ask(1, true, "x-sum", "5")
	frame, err := p.until(func(f h2.Frame) bool {
		_, ok := f.(*h2.DataFrame)
		return ok
	})
	require.NoError(t, err)
	require.Equal(t, "hello", string(frame.(*h2.DataFrame).Data()))
	frame, err = p.until(func(f h2.Frame) bool {
		_, ok := f.(*h2.MetaHeadersFrame)
		return ok
	})
	require.NoError(t, err)
	trailers := frame.(*h2.MetaHeadersFrame)
	require.True(t, trailers.StreamEnded())
	require.Equal(t, "5", trailers.RegularFields()[0].Value)
}

// TestFloods sends what asks for work and carries nothing, for ever.
func TestFloods(t *testing.T) {
	limits := Limits{Resets: 50, IdleFrames: 50, MaxHead: 8 << 10}
	for name, test := range map[string]struct {
		send func(p *peer, i uint32) error
		want h2.ErrCode
	}{
		"rapid reset": {func(p *peer, i uint32) error {
			p.ask(2*i+1, false, get()...)
			return p.framer.WriteRSTStream(2*i+1, h2.ErrCodeCancel)
		}, h2.ErrCodeEnhanceYourCalm},
		"made to reset": {func(p *peer, i uint32) error {
			p.ask(2*i+1, false, get()...)
			return p.framer.WriteWindowUpdate(2*i+1, 0)
		}, h2.ErrCodeEnhanceYourCalm},
		"malformed": {func(p *peer, i uint32) error {
			p.ask(2*i+1, true, get("connection", "close")...)
			return nil
		}, h2.ErrCodeEnhanceYourCalm},
		"pings":    {func(p *peer, _ uint32) error { return p.framer.WritePing(false, [8]byte{}) }, h2.ErrCodeEnhanceYourCalm},
		"settings": {func(p *peer, _ uint32) error { return p.framer.WriteSettings() }, h2.ErrCodeEnhanceYourCalm},
		"priorities": {func(p *peer, i uint32) error {
			return p.framer.WritePriority(2*i+1, h2.PriorityParam{StreamDep: 0})
		}, h2.ErrCodeEnhanceYourCalm},
		"unknown frames": {func(p *peer, _ uint32) error { return p.framer.WriteRawFrame(0xfa, 0, 0, nil) }, h2.ErrCodeEnhanceYourCalm},
		"empty data": {func(p *peer, i uint32) error {
			if i == 0 {
				p.ask(1, false, get()...)
			}
			return p.framer.WriteData(1, false, nil)
		}, h2.ErrCodeEnhanceYourCalm},
		"data of a stream that is over": {func(p *peer, i uint32) error {
			if i == 0 {
				p.ask(1, true, get()...)
			}
			return p.framer.WriteData(1, false, []byte("x"))
		}, h2.ErrCodeEnhanceYourCalm},
		"empty continuations": {func(p *peer, i uint32) error {
			if i == 0 {
				return p.framer.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(get()...)})
			}
			return p.framer.WriteContinuation(1, false, nil)
		}, h2.ErrCodeEnhanceYourCalm},
		"full continuations": {func(p *peer, i uint32) error {
			if i == 0 {
				return p.framer.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(get()...)})
			}
			return p.framer.WriteContinuation(1, false, p.encode("x-"+fmt.Sprint(i), strings.Repeat("y", 1000)))
		}, h2.ErrCodeEnhanceYourCalm},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, Options{Limits: limits})
			sending := make(chan struct{})
			go func() {
				defer close(sending)
				for i := range uint32(100000) {
					if test.send(p, i) != nil {
						return
					}
				}
			}()
			code := h2.ErrCode(0)
			for {
				frame, err := p.framer.ReadFrame()
				if goAway, ok := frame.(*h2.GoAwayFrame); ok {
					code = goAway.ErrCode
				}
				if err != nil {
					require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection ends")
					break
				}
			}
			_ = p.conn.Close()
			<-sending
			// What is unread when the connection ends may take the last word with it.
			if code != 0 {
				require.Equal(t, test.want, code)
			}
		})
	}
}

// TestHeadBomb: fields that are small on the wire and large when they are unpacked.
func TestHeadBomb(t *testing.T) {
	p := newPeer(t, Options{})
	fields := get()
	for range 1000 {
		fields = append(fields, "x-a", strings.Repeat("y", 2000))
	}
	p.ask(1, true, fields...)
	require.Equal(t, "431", p.awaitStatus(1))
	// The connection goes on: what was unpacked for nothing is still known to both sides.
	p.ask(3, true, get("x-a", strings.Repeat("y", 2000))...)
	require.Equal(t, "200", p.awaitStatus(3))
}

func TestManyFields(t *testing.T) {
	p := newPeer(t, Options{Limits: Limits{MaxFields: 3}})
	p.ask(1, true, get("a", "1", "b", "2", "c", "3")...)
	require.Equal(t, "200", p.awaitStatus(1))
	p.ask(3, true, get("a", "1", "b", "2", "c", "3", "d", "4")...)
	require.Equal(t, "431", p.awaitStatus(3))
}

func TestTooManyStreamsAreRefused(t *testing.T) {
	p := newPeer(t, Options{Limits: Limits{MaxStreams: 2}})
	for id := uint32(1); id <= 5; id += 2 {
		p.ask(id, false, get()...)
	}
	require.Equal(t, h2.ErrCodeRefusedStream, p.awaitReset(5))
	require.NoError(t, p.framer.WriteData(1, true, nil))
	_, err := p.until(func(f h2.Frame) bool {
		data, ok := f.(*h2.DataFrame)
		return ok && data.StreamEnded()
	})
	require.NoError(t, err)
	p.ask(7, true, get()...)
	require.Equal(t, "200", p.awaitStatus(7))
}

// TestSlowHead: a head may not be left open.
func TestSlowHead(t *testing.T) {
	p := newPeer(t, Options{Limits: Limits{HeadTime: 100 * time.Millisecond}})
	require.NoError(t, p.framer.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(get()...)}))
	_, err := p.until(func(h2.Frame) bool { return false })
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection ends")
}

// TestWindows: a stream whose content nobody takes stops its sender, and no other stream.
func TestWindows(t *testing.T) {
	var held sync.Map
	p := newPeer(t, Options{Request: func(s *Stream, h *Head, end bool) {
		if h.Path == "/held" {
			s.Receive(holder{})
			held.Store("stream", s)
			return
		}
		serveEcho(s, h, end)
	}})
	p.ask(1, false, ":method", "POST", ":scheme", "http", ":path", "/held", ":authority", "shop")
	chunk := make([]byte, 16<<10)
	for range streamWindow / len(chunk) {
		require.NoError(t, p.framer.WriteData(1, false, chunk))
	}
	p.ask(3, true, get()...)
	require.Equal(t, "200", p.awaitStatus(3), "others go on")
	// One byte more than was allowed.
	require.NoError(t, p.framer.WriteData(1, false, chunk[:1]))
	require.Equal(t, h2.ErrCodeFlowControl, p.awaitReset(1))
}

// holder takes nothing.
type holder struct{}

func (holder) Head(*Head, bool)  {}
func (holder) Data([]byte, bool) {}
func (holder) Sent(int)          {}
func (holder) Ended(error)       {}

// TestShutdown: what was sent before the peer heard of it is carried, and the connection ends after it.
func TestShutdown(t *testing.T) {
	var conn *Conn
	p := newPeer(t, Options{Request: func(s *Stream, h *Head, end bool) {
		conn = s.conn
		if h.Path == "/" {
			conn.Shutdown()
		}
		serveEcho(s, h, end)
	}})
	p.ask(1, false, get()...)
	last := []uint32{}
	_, err := p.until(func(f h2.Frame) bool {
		switch f := f.(type) {
		case *h2.GoAwayFrame:
			last = append(last, f.LastStreamID)
			if len(last) == 1 { // This one was on its way.
				p.ask(3, true, ":method", "GET", ":scheme", "http", ":path", "/late", ":authority", "shop")
			}
		case *h2.PingFrame:
			require.NoError(t, p.framer.WritePing(true, f.Data))
		case *h2.MetaHeadersFrame:
			if f.StreamID == 3 {
				require.NoError(t, p.framer.WriteData(1, true, []byte("bye")))
			}
		}
		return false
	})
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, []uint32{idMost, 3}, last)
}
