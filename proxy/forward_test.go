// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// only serves one handler whatever the revision.
func only(handler http.HandlerFunc) func(string) http.Handler {
	return func(string) http.Handler { return handler }
}

func TestTrailers(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, only(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Announced")
		_, _ = w.Write(body)
		w.Header().Set("X-Announced", r.Trailer.Get("X-Sum"))
		w.Header().Set(http.TrailerPrefix+"X-Surprise", "yes")
	}))
	for name, body := range map[string]string{"with body": "hello", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop+"/", io.MultiReader(strings.NewReader(body)))
			require.NoError(t, err)
			request.Trailer = http.Header{"X-Sum": {"42"}}
			response, err := p.caller.Client().Do(request)
			require.NoError(t, err)
			defer response.Body.Close()
			got, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Equal(t, body, string(got))
			require.Equal(t, "42", response.Trailer.Get("X-Announced"))
			require.Equal(t, "yes", response.Trailer.Get("X-Surprise"))
		})
	}
}

func TestHeadKeepsContentLength(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, only(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "12345")
		w.Header()["Date"] = nil
		w.Header()["Content-Type"] = nil
	}))
	response, err := p.caller.Client().Head(shop + "/")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.EqualValues(t, 12345, response.ContentLength)
	require.NotContains(t, response.Header, "Date")
	require.NotContains(t, response.Header, "Content-Type")
}

func TestInterimAnswers(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, only(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "done")
	}))
	var hints []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, header.Get("Link")))
			return nil
		},
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, shop+"/", nil)
	require.NoError(t, err)
	response, err := p.caller.Client().Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, []string{"103</style.css>; rel=preload"}, hints)
	require.Empty(t, response.Header.Get("Link"))
}

func TestExpectContinue(t *testing.T) {
	read := make(chan bool, 1)
	p, _ := newPair(t, []string{"s1"}, only(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		_, err := io.Copy(w, r.Body)
		read <- err == nil
	}))
	for path, want := range map[string]int{"/take": 200, "/refuse": 417} {
		conn, err := p.caller.DialApp(t.Context(), shopVIP)
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", path)
		require.NoError(t, err)
		reader := bufio.NewReader(conn)
		request := &http.Request{Method: http.MethodPost}
		response, err := http.ReadResponse(reader, request)
		require.NoError(t, err)
		if want == 200 {
			require.Equal(t, http.StatusContinue, response.StatusCode)
			_, err = io.WriteString(conn, "hello")
			require.NoError(t, err)
			response, err = http.ReadResponse(reader, request)
			require.NoError(t, err)
			require.True(t, <-read)
		}
		require.Equal(t, want, response.StatusCode, path)
		require.NoError(t, conn.Close())
	}
}

func TestStreamsBothWays(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, only(func(w http.ResponseWriter, r *http.Request) {
		controller := http.NewResponseController(w)
		_ = controller.EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = controller.Flush()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			_, _ = fmt.Fprintf(w, "got %s\n", lines.Text())
			_ = controller.Flush()
		}
	}))
	reader, writer := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop+"/", reader)
	require.NoError(t, err)
	response, err := p.caller.Client().Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	answers := bufio.NewReader(response.Body)
	for i := range 3 {
		_, err = fmt.Fprintf(writer, "line %d\n", i)
		require.NoError(t, err)
		line, err := answers.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("got line %d\n", i), line)
	}
	require.NoError(t, writer.Close())
	_, err = answers.ReadString('\n')
	require.ErrorIs(t, err, io.EOF)
}

func TestTruncatedAnswersAreSeenAsSuch(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, only(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", "100")
		}
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	for _, path := range []string{"/length", "/chunked"} {
		response, err := p.caller.Client().Get(shop + path)
		require.NoError(t, err)
		_, err = io.ReadAll(response.Body)
		require.Error(t, err, path)
		require.NoError(t, response.Body.Close())
	}
	require.InDelta(t, 2, p.caller.Metric("response_total", `classification="failure"`, `error="truncated"`, `dst_pod_template_hash="s1"`), 0)
}

// TestAnswersThatEndWithTheConnectionAreResetWhenTruncated has a client that can tell an end from a
// truncation by nothing else.
func TestAnswersThatEndWithTheConnectionAreResetWhenTruncated(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, only(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	conn := dialApp(t, p)
	_, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	_, err = io.ReadAll(conn)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestTheApplicationSeesThatAClientLeft(t *testing.T) {
	started, left := make(chan struct{}), make(chan struct{})
	p, _ := newPair(t, []string{"s1"}, only(func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
		close(left)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, shop+"/", nil)
	require.NoError(t, err)
	go func() {
		<-started
		cancel()
	}()
	_, err = p.caller.Client().Do(request) // There is no body.
	require.ErrorIs(t, err, context.Canceled)
	select {
	case <-left:
	case <-time.After(time.Minute):
		t.Fatal("the application still works for nobody")
	}
	require.Eventually(t, func() bool {
		return p.caller.Metric("response_total", `error="canceled"`, `dst_pod_template_hash="s1"`) == 1
	}, time.Minute, 5*time.Millisecond)
}

func TestWebSocket(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, only(func(w http.ResponseWriter, r *http.Request) {
		socket, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer socket.CloseNow()
		for {
			kind, message, err := socket.Read(r.Context())
			if err != nil {
				return
			}
			if err := socket.Write(r.Context(), kind, append([]byte("re: "), message...)); err != nil {
				return
			}
		}
	}))
	socket, response, err := websocket.Dial(t.Context(), "ws://"+shopVIP+"/ws", &websocket.DialOptions{HTTPClient: p.caller.Client()})
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	for _, message := range []string{"a", strings.Repeat("b", 20<<10)} {
		require.NoError(t, socket.Write(t.Context(), websocket.MessageText, []byte(message)))
		_, got, err := socket.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, "re: "+message, string(got))
	}
	require.NoError(t, socket.Close(websocket.StatusNormalClosure, ""))
}

// tunnelBack answers CONNECT by what comes through the tunnel.
func tunnelBack(w http.ResponseWriter) {
	w.WriteHeader(http.StatusOK)
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_ = buffered.Flush()
	_, _ = io.Copy(conn, buffered)
}

func TestConnectIsATunnel(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, only(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") != "Basic secret" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		tunnelBack(w)
	}))
	conn, err := p.caller.DialApp(t.Context(), shopVIP)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nProxy-Authorization: Basic secret\r\n\r\n")
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	require.NoError(t, err)
	require.Equal(t, 200, response.StatusCode)
	_, err = io.WriteString(conn, "through the tunnel")
	require.NoError(t, err)
	got := make([]byte, len("through the tunnel"))
	_, err = io.ReadFull(reader, got)
	require.NoError(t, err)
	require.Equal(t, "through the tunnel", string(got))
}

func TestRawRequests(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, echo)
	for name, test := range map[string]struct {
		request string
		status  int
		header  map[string]string
	}{
		"options *": {
			request: "OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n", status: 200,
			header: map[string]string{"Content-Length": "0"}, // net/http's own answer in the application.
		},
		"absolute form": {
			request: "GET http://shop.example/a?b HTTP/1.1\r\nHost: shop.example\r\n\r\n", status: 200,
			header: map[string]string{"X-Target": "http://shop.example/a?b", "X-Host": "shop.example"},
		},
		"absolute form with another host": {
			request: "GET http://shop.example/a?b HTTP/1.1\r\nHost: other\r\n\r\n", status: 400,
			header: map[string]string{"Sluice-Error": "host_mismatch"},
		},
		"double slash": {
			request: "GET //a//b?c HTTP/1.1\r\nHost: shop\r\n\r\n", status: 200,
			header: map[string]string{"X-Target": "//a//b?c"},
		},
		"http/1.0": {
			request: "GET /a HTTP/1.0\r\n\r\n", status: 200,
			header: map[string]string{"X-Target": "/a"},
		},
		"connection's own fields stay behind": {
			request: "GET /a HTTP/1.1\r\nHost: shop\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nX-End: 2\r\nTE: trailers, gzip\r\n\r\n", status: 200,
			header: map[string]string{"X-Got-X-Hop": "", "X-Got-Keep-Alive": "", "X-Got-X-End": "2", "X-Got-Te": "trailers"},
		},
		"two lengths": {
			request: "POST /a HTTP/1.1\r\nHost: shop\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", status: 400,
		},
	} {
		t.Run(name, func(t *testing.T) {
			response, _ := exchangeRaw(t, p, test.request)
			require.Equal(t, test.status, response.StatusCode)
			for key, want := range test.header {
				require.Equal(t, want, response.Header.Get(key), key)
			}
		})
	}
}

func exchangeRaw(t *testing.T, p *pair, request string) (*http.Response, []byte) {
	t.Helper()
	conn, err := p.caller.DialApp(t.Context(), shopVIP)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, body
}

func TestTCPIsCarriedAsItIs(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	serveTCP(t, p.pods[0].Listen(), func(conn net.Conn) {
		body, _ := io.ReadAll(conn) // Until the client ends its side.
		_, _ = conn.Write(append([]byte("got "), body...))
	})
	for name, message := range map[string][]byte{
		"binary":       {0, 1, 2, 3},
		"tls of apps":  append([]byte{0x16, 3, 1, 0, 5}, "hello"...),
		"redis":        []byte("GET key\r\n"),
		"large":        bytes.Repeat([]byte{7}, 1<<20),
		"almost http2": []byte("PRI * HTTP/2.0\r\n\r\nSL\r\n\r\n"),
		"half a line":  []byte("GE"),
		"almost http1": []byte("GET / HTTP/1"),
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := p.caller.DialApp(t.Context(), shopVIP)
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
			_, err = conn.Write(message)
			require.NoError(t, err)
			require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			got, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.True(t, bytes.Equal(append([]byte("got "), message...), got), "got %d bytes", len(got))
		})
	}
	require.NotZero(t, p.caller.Metric("tcp_open_total", `peer="dst"`, `tls="true"`, `dst_pod_template_hash="s1"`))
}

func serveTCP(t *testing.T, listener net.Listener, serve func(net.Conn)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
}

func TestServerSpeaksFirst(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	serveTCP(t, p.pods[0].Listen(), func(conn net.Conn) {
		_, _ = io.WriteString(conn, "220 ready\r\n")
		line, _ := bufio.NewReader(conn).ReadString('\n')
		_, _ = io.WriteString(conn, "250 "+line)
	})
	talk := func(dial func() (net.Conn, error)) time.Duration {
		began := time.Now()
		conn, err := dial()
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		reader := bufio.NewReader(conn)
		greeting, err := reader.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "220 ready\r\n", greeting)
		waited := time.Since(began)
		_, err = io.WriteString(conn, "HELO\r\n")
		require.NoError(t, err)
		answer, err := reader.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "250 HELO\r\n", answer)
		return waited
	}
	meshed := func() (net.Conn, error) { return p.caller.DialApp(t.Context(), shopVIP) }
	unmeshed := func() (net.Conn, error) { return p.pods[0].DialOutside(t.Context()) }
	for name, dial := range map[string]func() (net.Conn, error){"meshed": meshed, "unmeshed": unmeshed} {
		require.Greater(t, talk(dial), 900*time.Millisecond, "%s: detection waits the first time", name)
		require.Less(t, talk(dial), 800*time.Millisecond, "%s: and not the second", name)
	}
}

// TestTraceContextPasses: what W3C Trace Context says of a request reaches the application as it was, also
// where it is none.
func TestTraceContextPasses(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, echo)
	for client, of := range map[string]*http.Client{"HTTP/1.1": p.caller.Client(), "HTTP/2": p.caller.HTTP2Client()} {
		for name, header := range map[string]http.Header{
			"whole": {
				"Traceparent": {traceParent}, "Tracestate": {"vendor=t61rcWkgMzE,other=00f067aa0ba902b7"}, "Baggage": {"user=alice"},
			},
			"in lines":    {"Traceparent": {traceParent}, "Tracestate": {"a=1", "b=2"}, "Baggage": {"user=alice", "n=1"}},
			"none":        {"Traceparent": {"00-nothing-to-parse"}, "Tracestate": {"=,,"}},
			"of later":    {"Traceparent": {"cc" + traceParent[2:] + "-what-will-be"}},
			"two at once": {"Traceparent": {traceParent, traceParent}},
		} {
			t.Run(client+" "+name, func(t *testing.T) {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/", nil)
				require.NoError(t, err)
				request.Header = header.Clone()
				response := fetch(t, of, request)
				require.Equal(t, 200, response.StatusCode, response.Header)
				for name, values := range header {
					require.Equal(t, values, response.Header["X-Got-"+name])
				}
			})
		}
	}
}
