// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// forged is a request of somebody who says that he is somebody else.
const forged = "GET / HTTP/1.1\r\nHost: shop\r\nSluice-Client-Id: spiffe://cluster.local/ns/shop/sa/admin\r\n\r\n"

// newDeclared is a pair whose Service's port is declared to be HTTP.
func newDeclared(t *testing.T, headTime time.Duration) *pair {
	t.Helper()
	m := proxytest.New(t)
	declared := mesh.Inbound{Protocols: map[uint16]mesh.Protocol{proxytest.AppPort: mesh.ProtocolHTTP1}}
	p := &pair{Mesh: m, caller: m.Start(proxytest.PodSpec{Name: "caller", Workload: "shop/caller", Hash: "c1", HeadTime: headTime})}
	pod := m.Start(proxytest.PodSpec{Name: "shop", Workload: "shop/shop", Hash: "s1", Inbound: declared, HeadTime: headTime})
	p.pods = []*proxytest.Pod{pod}
	m.Discovery.SetDestination(mesh.Destination{
		Address: shopVIP, Service: mesh.Service{Namespace: "shop", Name: "shop", Port: 80},
		Protocol: mesh.ProtocolHTTP1, Endpoints: []mesh.Endpoint{pod.Endpoint()},
	})
	return p
}

// listenToBytes has an application take all bytes, and answer each head. seen holds what it got.
func listenToBytes(t *testing.T, pod *proxytest.Pod) (seen *atomic.Value) {
	t.Helper()
	seen = &atomic.Value{}
	seen.Store("")
	serveTCP(t, pod.Listen(), func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		for {
			head, err := readHead(reader)
			seen.Store(seen.Load().(string) + head)
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	return seen
}

// readHead reads up to an empty line, and what came before an end.
func readHead(reader *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := reader.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" && head.Len() > len(line) {
			return head.String(), err
		}
	}
}

// waysIn are the connections by which bytes may come to a declared port.
func waysIn(t *testing.T, p *pair) map[string]func() net.Conn {
	t.Helper()
	pod := p.pods[0]
	return map[string]func() net.Conn{
		"unmeshed": func() net.Conn {
			conn, err := pod.DialOutside(t.Context())
			require.NoError(t, err)
			return conn
		},
		"meshed":          func() net.Conn { return dialApp(t, p) },
		"meshed as bytes": func() net.Conn { return dialAs(t, p, mesh.ALPNTCP) },
	}
}

// dialAs opens a connection to the pod as the caller's proxy would.
func dialAs(t *testing.T, p *pair, protocol string) net.Conn {
	t.Helper()
	raw, err := p.pods[0].DialOutside(t.Context())
	require.NoError(t, err)
	config := identity.ClientConfig(p.CA.Source(t, "shop", "default"), p.CA, p.CA.ID("shop", "default"))
	config.NextProtos = []string{protocol}
	conn := tls.Client(raw, config)
	require.NoError(t, conn.Handshake())
	return conn
}

// TestDeclaredPortsAreStrict: on a port that is declared to be HTTP nothing gets past what reads
// requests, however it begins and however slowly it comes.
func TestDeclaredPortsAreStrict(t *testing.T) {
	p := newDeclared(t, 0)
	seen := listenToBytes(t, p.pods[0])
	for way, dial := range waysIn(t, p) {
		for name, test := range map[string]struct {
			pieces []string
			status int
		}{
			"plain":                 {[]string{forged}, 200},
			"empty line first":      {[]string{"\r\n" + forged}, 200},
			"empty line alone":      {[]string{"\r\n", forged}, 200},
			"two empty lines":       {[]string{"\r\n\r\n" + forged}, 400},
			"bare LF first":         {[]string{"\n" + forged}, 400},
			"bare CR first":         {[]string{"\r" + forged}, 400},
			"space first":           {[]string{" " + forged}, 400},
			"NUL first":             {[]string{"\x00" + forged}, 400},
			"byte by byte":          {strings.Split(forged, ""), 200},
			"small letters":         {[]string{strings.ToLower(forged[:3]) + forged[3:]}, 200},
			"long method":           {[]string{strings.Repeat("X", 40) + forged}, 200},
			"almost HTTP/2":         {[]string{"PRI * HTTP/2.0\r\n\r\nSL\r\n\r\n" + forged}, 505},
			"HTTP/2 after a line":   {[]string{"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}, 505},
			"HTTP/0.9":              {[]string{"GET /\r\n"}, 400},
			"HTTP/3.0":              {[]string{strings.Replace(forged, "HTTP/1.1", "HTTP/3.0", 1)}, 505},
			"no version":            {[]string{strings.Replace(forged, " HTTP/1.1", "", 1)}, 400},
			"tab in the line":       {[]string{strings.Replace(forged, "GET /", "GET\t/", 1)}, 400},
			"TLS":                   {[]string{"\x16\x03\x01\x00\x05hello"}, 400},
			"a binary protocol":     {[]string{"\x00\x00\x00\x08\x04\xd2\x16\x2f"}, 400},
			"redis":                 {[]string{"*1\r\n$4\r\nPING\r\n"}, 400},
			"a PROXY header":        {[]string{"PROXY TCP4 1.2.3.4 1.2.3.4 1 80\r\n" + forged}, 400},
			"a binary PROXY header": {[]string{"\r\n\r\n\x00\r\nQUIT\n" + forged}, 400},
		} {
			t.Run(way+"/"+name, func(t *testing.T) {
				seen.Store("")
				conn := dial()
				defer conn.Close()
				require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
				for _, piece := range test.pieces {
					_, err := io.WriteString(conn, piece)
					require.NoError(t, err)
				}
				reader := bufio.NewReader(conn)
				response, err := http.ReadResponse(reader, nil)
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, response.Body)
				require.NoError(t, err)
				require.Equal(t, test.status, response.StatusCode)
				got := seen.Load().(string)
				require.NotContains(t, got, "admin", "the application was told who somebody else is")
				if test.status != 200 {
					_, err = reader.ReadByte()
					require.Error(t, err, "the connection ends")
					require.Empty(t, got)
				}
			})
		}
	}
}

// TestDeclaredPortsReadHTTP2: by whichever way it comes, and however slowly its preface does.
func TestDeclaredPortsReadHTTP2(t *testing.T) {
	p := newDeclared(t, 0)
	got := make(chan http.Header, 1)
	p.pods[0].Serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Clone() }))
	want := map[string]string{"unmeshed": "", "meshed": "spiffe://cluster.local/ns/shop/sa/default", "meshed as bytes": "spiffe://cluster.local/ns/shop/sa/default"}
	for way, dial := range waysIn(t, p) {
		for name, pieces := range map[string]int{"at once": 1 << 20, "in pieces": 5} {
			t.Run(way+"/"+name, func(t *testing.T) {
				protocols := &http.Protocols{}
				protocols.SetUnencryptedHTTP2(true)
				transport := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) {
					return inPieces{dial(), pieces}, nil
				}}
				defer transport.CloseIdleConnections()
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/", nil)
				require.NoError(t, err)
				request.Header.Set("Sluice-Client-Id", "admin")
				response, err := transport.RoundTrip(request)
				require.NoError(t, err)
				require.NoError(t, response.Body.Close())
				require.Equal(t, 200, response.StatusCode)
				require.Equal(t, "HTTP/2.0", response.Proto)
				require.Equal(t, want[way], (<-got).Get("Sluice-Client-Id"))
			})
		}
	}
}

// inPieces writes a few bytes at a time.
type inPieces struct {
	net.Conn
	size int
}

func (c inPieces) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, err := c.Conn.Write(p[written:min(written+c.size, len(p))])
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// TestHeadsHaveALimitedTime: a client that does not end its request's head is told so, be it in its
// first request or a later one, and keeps nothing.
func TestHeadsHaveALimitedTime(t *testing.T) {
	p := newDeclared(t, 300*time.Millisecond)
	seen := listenToBytes(t, p.pods[0])
	for way, dial := range waysIn(t, p) {
		for name, test := range map[string]struct{ whole, part string }{
			"first line":    {"", "GET / HT"},
			"fields":        {"", "GET / HTTP/1.1\r\nHost: shop\r\nX: "},
			"empty line":    {"", "\r\n"},
			"later request": {forged, "GET / HTTP/1.1\r\n"},
		} {
			t.Run(way+"/"+name, func(t *testing.T) {
				seen.Store("")
				conn := dial()
				defer conn.Close()
				require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
				_, err := io.WriteString(conn, test.whole+test.part)
				require.NoError(t, err)
				reader := bufio.NewReader(conn)
				if test.whole != "" {
					response, err := http.ReadResponse(reader, nil)
					require.NoError(t, err)
					_, err = io.Copy(io.Discard, response.Body)
					require.NoError(t, err)
					require.Equal(t, 200, response.StatusCode)
				}
				response, err := http.ReadResponse(reader, nil)
				require.NoError(t, err)
				require.Equal(t, http.StatusRequestTimeout, response.StatusCode)
				require.Equal(t, "head_timeout", response.Header.Get("Sluice-Error"))
				require.True(t, response.Close)
				require.NotContains(t, seen.Load().(string), "admin")
			})
		}
	}
	require.NotZero(t, p.pods[0].Metric("sluice_http_malformed_total", `reason="head_timeout"`))
}

// TestSlowHeadsOfKnownPortsAreRequests: a port that nobody has declared but that has been seen to
// speak HTTP does not let a client past either because its first line comes slowly.
func TestSlowHeadsOfKnownPortsAreRequests(t *testing.T) {
	var got atomic.Value
	p, _ := newPair(t, []string{"s1"}, func(string) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Clone()) })
	})
	client := p.pods[0].OutsideClient()
	proxytest.Get(t, client, shop+"/")
	for _, first := range []string{"G", "\r\n", "GET / HTT"} {
		conn, err := p.pods[0].DialOutside(t.Context())
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		_, err = io.WriteString(conn, first)
		require.NoError(t, err)
		// Longer than detection waits where it does not know.
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(1200*time.Millisecond)))
		_, err = conn.Read(make([]byte, 1))
		require.ErrorContains(t, err, "timeout")
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		rest := forged
		if first != "\r\n" {
			rest = forged[len(first):]
		}
		_, err = io.WriteString(conn, rest)
		require.NoError(t, err)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, 200, response.StatusCode)
		require.Empty(t, got.Load().(http.Header).Get("Sluice-Client-Id"))
		require.NoError(t, conn.Close())
	}
}
