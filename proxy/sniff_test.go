// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

func TestClassify(t *testing.T) {
	for name, test := range map[string]struct {
		first string
		want  spoken
	}{
		"nothing":                     {"", spokenUnclear},
		"part of a method":            {"GE", spokenUnclear},
		"method":                      {"GET ", spokenUnclear},
		"target":                      {"GET /a", spokenUnclear},
		"part of the version":         {"GET /a HTT", spokenUnclear},
		"request":                     {"GET /a HTTP/1.1\r\n", spokenHTTP1},
		"request line without end":    {"POST /a HTTP/1.0", spokenHTTP1},
		"unknown method":              {"VERSION-CONTROL /a HTTP/1.1\r\n", spokenHTTP1},
		"empty line first":            {"\r\nGET / HTTP/1.1\r\n", spokenHTTP1},
		"bare ends of lines first":    {"\n\r\r\nGET / HTTP/1.1\r\n", spokenHTTP1},
		"empty line":                  {"\r\n", spokenUnclear},
		"a binary PROXY header":       {"\r\n\r\n\x00\r\nQUIT\n", spokenOther},
		"connect":                     {"CONNECT a:443 HTTP/1.1\r\n", spokenHTTP1},
		"options":                     {"OPTIONS * HTTP/1.1\r\n", spokenHTTP1},
		"long target":                 {"GET /" + strings.Repeat("a", sniffLimit), spokenHTTP1},
		"long method":                 {strings.Repeat("A", 33) + " /", spokenOther},
		"http2":                       {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00", spokenHTTP2},
		"part of a preface":           {"PRI * HTTP/2.0\r\n\r\n", spokenUnclear},
		"almost a preface":            {"PRI * HTTP/2.0\r\n\r\nSL", spokenOther},
		"redis inline":                {"GET key\r\n", spokenOther},
		"redis":                       {"*1\r\n$4\r\nPING\r\n", spokenOther},
		"memcached":                   {"get key\r\n", spokenOther},
		"a word":                      {"QUIT\r\n", spokenOther},
		"http 0.9":                    {"GET /\r\n", spokenOther},
		"no target":                   {"GET  HTTP/1.1\r\n", spokenOther},
		"tls":                         {"\x16\x03\x01", spokenTLS},
		"mysql":                       {"\x00\x00", spokenOther},
		"postgres":                    {"\x00\x00\x00\x08\x04\xd2\x16\x2f", spokenOther},
		"control bytes in the target": {"GET /\x00 HTTP/1.1\r\n", spokenOther},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, classify([]byte(test.first))) })
	}
}

// FuzzClassify checks that a verdict never changes when more bytes come, and that whatever net/http
// reads as a request of HTTP/1 with a method in capitals is taken for one.
func FuzzClassify(f *testing.F) {
	for _, seed := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PRI * HTTP/2.0\r\n", "\x16\x03", "GET key\r\n", "POST  /a HTTP/1.1\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		settled := spokenUnclear
		for i := range min(len(data), 200) {
			verdict := classify(data[:i+1])
			if settled != spokenUnclear && verdict != settled {
				t.Fatalf("verdict %d became %d after %q", settled, verdict, data[:i+1])
			}
			settled = verdict
		}
		request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
		if err != nil || request.ProtoMajor != 1 || !isToken([]byte(request.Method)) || len(request.Method) > 32 {
			return
		}
		if !bytes.HasPrefix(data, []byte(request.Method)) || strings.ContainsAny(request.RequestURI, "\x00\t\r") || request.RequestURI == "" {
			return // Lines before the request line, which no client sends first.
		}
		if verdict := classify(data); verdict != spokenHTTP1 {
			t.Fatalf("verdict %d for %q, which is a request", verdict, data)
		}
	})
}

func TestReadHello(t *testing.T) {
	for name, test := range map[string]struct {
		protocols []string
		fragment  int
	}{
		"mesh":            {[]string{mesh.ALPNHTTP1}, 1 << 20},
		"mesh in pieces":  {[]string{mesh.ALPNTCP}, 100},
		"somebody else's": {[]string{"h2", "http/1.1"}, 1 << 20},
		"none":            {nil, 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := net.Pipe()
			defer client.Close()
			defer server.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				// Fails, as nobody answers.
				_ = tls.Client(fragmenting{client, test.fragment}, &tls.Config{NextProtos: test.protocols, ServerName: "a", MinVersion: tls.VersionTLS13}).Handshake()
			}()
			verdict, first, err := sniff(server, time.Second)
			require.NoError(t, err)
			require.Equal(t, spokenTLS, verdict)
			offered, read, err := readHello(server, first)
			require.NoError(t, err)
			require.Equal(t, test.protocols, offered)
			require.True(t, bytes.HasPrefix(read, first))
			require.NoError(t, server.Close())
			<-done
		})
	}
}

// TestSniffLooksOnceMore: what came in time is seen though the process comes to read it too late.
func TestSniffLooksOnceMore(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Write([]byte("GET / HTTP/1.1\r\n"))
	require.NoError(t, err)
	server, err := listener.Accept()
	require.NoError(t, err)
	defer server.Close()
	verdict, _, err := sniff(server, 0)
	require.NoError(t, err)
	require.Equal(t, spokenHTTP1, verdict)
}

func TestReadHelloOfNonsense(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	go func() { _, _ = client.Write([]byte("\x16\x03\x01\x00\x05hello")) }()
	_, first, err := sniff(server, time.Second)
	require.NoError(t, err)
	offered, read, err := readHello(server, first)
	require.NoError(t, err)
	require.Empty(t, offered)
	require.NoError(t, client.Close()) // Not before: a pipe whose other end is closed takes no deadline.
	rest, err := io.ReadAll(server)
	require.NoError(t, err)
	require.Equal(t, "\x16\x03\x01\x00\x05hello", string(read)+string(rest))
}

type fragmenting struct {
	net.Conn
	size int
}

func (f fragmenting) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n, err := f.Conn.Write(p[:min(f.size, len(p))])
		written += n
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

func TestIsHost(t *testing.T) {
	address := netipAddr("10.1.2.3")
	for host, want := range map[string]bool{
		"10.1.2.3": true, "10.1.2.3:8080": true, "10.1.2.4": false, "shop": false, "shop:80": false, "": false,
		"[::ffff:10.1.2.3]:80": true, "10.1.2.3.": false, "10.1.2.30": false, "10.1.2.3:": true,
	} {
		require.Equal(t, want, isHost([]byte(host), address), host)
	}
	six := netipAddr("fd00::1")
	require.True(t, isHost([]byte("[fd00::1]"), six))
	require.True(t, isHost([]byte("[fd00::1]:80"), six))
	require.False(t, isHost([]byte("[fd00::2]:80"), six))
}
