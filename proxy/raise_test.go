// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// raisedPair is a caller and a pod whose port is declared to speak HTTP/2.
func raisedPair(t *testing.T, serve func(*proxytest.Pod, http.Handler), handler http.Handler) *pair {
	t.Helper()
	p, destination := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	serve(p.pods[0], handler)
	destination.Protocol, destination.HTTP2 = mesh.ProtocolHTTP1, true
	p.Discovery.SetDestination(destination)
	p.Discovery.SetInbound(p.pods[0].Spec.Name, mesh.Inbound{
		Workload: "shop/shop", PodTemplateHash: "s1",
		Protocols: map[uint16]mesh.Protocol{proxytest.AppPort: mesh.ProtocolHTTP1}, HTTP2Ports: []uint16{proxytest.AppPort},
	})
	awaitKnown(t, p)
	p.Discovery.AwaitAcknowledged(t, p.pods[0].Spec.Name)
	return p
}

// variety answers in the ways that HTTP knows.
func variety(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	for name, values := range r.Header {
		if name != "Te" && name != "Trailer" && name != "Connection" && name != "Expect" {
			w.Header()["X-Got-"+name] = values
		}
	}
	w.Header().Set("X-Asked", fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Host, " ", r.ContentLength, " ", len(body), " ", r.Trailer))
	switch r.URL.Path {
	case "/nothing":
		w.WriteHeader(http.StatusNoContent)
	case "/unchanged":
		w.Header().Set("Etag", `"a"`)
		w.WriteHeader(http.StatusNotModified)
	case "/early":
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = w.Write(body)
	case "/stream":
		for range 3 {
			_, _ = io.WriteString(w, "part;")
			_ = http.NewResponseController(w).Flush()
		}
	case "/length":
		w.Header().Set("Content-Length", "5")
		_, _ = io.WriteString(w, "hello")
	case "/trailers":
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "counted")
		w.Header().Set("X-Sum", "7")
	case "/trailers-alone":
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Sum", "0")
	case "/large":
		_, _ = w.Write(bytes.Repeat([]byte("0123456789abcdef"), 64<<10))
	case "/aborted":
		panic(http.ErrAbortHandler)
	case "/broken":
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(make([]byte, 100_000))
		panic(http.ErrAbortHandler)
	case "/fails":
		w.WriteHeader(http.StatusInternalServerError)
	case "/cookies":
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
	default:
		_, _ = w.Write(body)
	}
}

// came is all that a client has of an answer.
type came struct {
	status          int
	header, trailer http.Header
	length          int64
	body            string
	broken          bool
	interim         []string
}

// TestRaisedRequestsAreTheSame: a client of HTTP/1.1 cannot tell an application that speaks HTTP/1.1 from one
// that speaks only HTTP/2, and neither can the application the client.
func TestRaisedRequestsAreTheSame(t *testing.T) {
	large := bytes.Repeat([]byte("fedcba9876543210"), 64<<10)
	chunked := func(text []byte) func() io.Reader {
		return func() io.Reader { return io.MultiReader(bytes.NewReader(text)) }
	}
	whole := func(text []byte) func() io.Reader { return func() io.Reader { return bytes.NewReader(text) } }
	tests := map[string]raisedCase{
		"get":                      {method: "GET", path: "/a%2Fb//c?x=1&y"},
		"no path":                  {method: "GET"},
		"a query alone":            {method: "GET", path: "?a"},
		"head":                     {method: "HEAD", path: "/length"},
		"head of a stream":         {method: "HEAD", path: "/large"},
		"delete":                   {method: "DELETE", path: "/"},
		"another method":           {method: "BREW", path: "/"},
		"post":                     {method: "POST", path: "/", body: whole([]byte("hello"))},
		"post nothing":             {method: "POST", path: "/", body: whole(nil)},
		"chunks":                   {method: "PUT", path: "/", body: chunked([]byte("hello"))},
		"empty chunks":             {method: "PUT", path: "/", body: chunked(nil)},
		"large":                    {method: "POST", path: "/", body: whole(large)},
		"large chunks":             {method: "POST", path: "/", body: chunked(large)},
		"a large answer":           {method: "GET", path: "/large"},
		"no content":               {method: "GET", path: "/nothing"},
		"not modified":             {method: "GET", path: "/unchanged"},
		"early hints":              {method: "GET", path: "/early"},
		"a stream":                 {method: "GET", path: "/stream"},
		"a length":                 {method: "GET", path: "/length"},
		"trailers":                 {method: "GET", path: "/trailers"},
		"trailers without content": {method: "GET", path: "/trailers-alone"},
		"broken off":               {method: "GET", path: "/broken"},
		"a failure":                {method: "GET", path: "/fails"},
		"no answer":                {method: "GET", path: "/aborted"},
		"no answer to a post":      {method: "POST", path: "/aborted", body: whole([]byte("hello"))},
		"cookies": {method: "GET", path: "/cookies", change: func(r *http.Request) {
			r.Header["Cookie"] = []string{"a=1; b=2"}
		}},
		"fields": {method: "GET", path: "/", change: func(r *http.Request) {
			r.Header["X-Two"] = []string{"1", "2"}
			r.Header["X-Empty"] = []string{""}
			r.Header.Set("X-Utf", "grün")
			r.Header.Set("Connection", "X-Mine")
			r.Header.Set("X-Mine", "stays")
			r.Header.Set("Keep-Alive", "timeout=5")
			r.Header.Set("Sluice-Client-Id", "spiffe://cluster.local/ns/evil/sa/evil")
			r.Host = "Shop.Example:8080"
		}},
		"request trailers": {method: "POST", path: "/", body: chunked([]byte("hello")), change: func(r *http.Request) {
			r.Trailer = http.Header{"X-Sum": {"5"}}
		}},
		"expect": {method: "POST", path: "/", body: whole([]byte("hello")), change: func(r *http.Request) {
			r.Header.Set("Expect", "100-continue")
		}},
		"an offer of h2c is not taken": {method: "GET", path: "/", change: func(r *http.Request) {
			r.Header.Set("Connection", "Upgrade, HTTP2-Settings")
			r.Header.Set("Upgrade", "h2c")
			r.Header.Set("Http2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA")
		}},
	}
	answers := map[string]came{}
	t.Run("HTTP/1.1", func(t *testing.T) {
		p, _ := newPair(t, []string{"s1"}, func(string) http.Handler { return http.HandlerFunc(variety) })
		for name, test := range tests {
			answers["meshed, "+name], answers["unmeshed, "+name] = test.ask(t, p.caller.Client()), test.ask(t, p.pods[0].OutsideClient())
		}
	})
	p := raisedPair(t, (*proxytest.Pod).ServeHTTP2, http.HandlerFunc(variety))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, answers["meshed, "+name], test.ask(t, p.caller.Client()))
			require.Equal(t, answers["unmeshed, "+name], test.ask(t, p.pods[0].OutsideClient()))
		})
	}
	require.NotZero(t, p.pods[0].Metric("response_total", `direction="inbound"`, `status_code="200"`))
}

// raisedCase is a request.
type raisedCase struct {
	method, path string
	body         func() io.Reader
	change       func(*http.Request)
}

// ask sends it and returns what must be the same.
func (c raisedCase) ask(t *testing.T, client *http.Client) came {
	t.Helper()
	var got came
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		got.interim = append(got.interim, fmt.Sprint(code, header))
		return nil
	}}
	var body io.Reader
	if c.body != nil {
		body = c.body()
	}
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), c.method, shop+c.path, body)
	require.NoError(t, err)
	if c.change != nil {
		c.change(request)
	}
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	got.status, got.header, got.trailer = response.StatusCode, response.Header, response.Trailer
	got.body, got.broken, got.length = string(content), err != nil, response.ContentLength
	if len(got.body) > 1000 {
		got.body = fmt.Sprintf("%x", sha256.Sum256(content))
	}
	if got.broken {
		got.body = "" // How much of it has come says nothing.
	}
	if c.path == "/stream" || c.method == "HEAD" || c.path == "/large" || strings.HasPrefix(c.path, "/trailers") {
		got.length = 0 // Servers state it as they like.
		got.header.Del("Content-Length")
	}
	got.header.Del("Date")
	got.header.Del("Connection")
	return got
}

// askRaw sends a request over a connection of its own and reads the answer.
func askRaw(t *testing.T, p *pair, text string) *http.Response {
	t.Helper()
	conn, err := p.caller.DialApp(t.Context(), shopVIP)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, text)
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func TestTargetsOfAllForms(t *testing.T) {
	p := raisedPair(t, (*proxytest.Pod).ServeHTTP2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Method, " ", r.RequestURI, " ", r.Host)
	}))
	for text, want := range map[string]string{
		"GET http://shop/a?b HTTP/1.1\r\nHost: shop\r\n\r\n":        "GET /a?b shop",
		"GET http://shop HTTP/1.1\r\nHost: shop\r\n\r\n":            "GET / shop",
		"GET http://shop?b HTTP/1.1\r\nHost: shop\r\n\r\n":          "GET /?b shop",
		"OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n":                  "OPTIONS * shop",
		"GET /a://b HTTP/1.1\r\nHost: shop\r\n\r\n":                 "GET /a://b shop",
		"GET /nobody HTTP/1.1\r\nHost:\r\n\r\n":                     "GET /nobody ",
		"GET /old HTTP/1.0\r\nHost: shop\r\n\r\n":                   "GET /old shop",
		"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n": "GET / shop",
	} {
		response := askRaw(t, p, text)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		if !strings.HasPrefix(text, "OPTIONS") { // net/http answers that itself.
			require.Equal(t, want, string(body), text)
		}
		require.Equal(t, http.StatusOK, response.StatusCode, text)
	}
}

// TestUpgradesAreNotRaised: they are refused, unless the endpoint speaks HTTP/1.1 after all.
func TestUpgradesAreNotRaised(t *testing.T) {
	upgrades := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			_, _ = io.WriteString(w, r.Proto)
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = buffered.Flush()
		_ = conn.Close()
	})
	const text = "GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
	t.Run("HTTP/2", func(t *testing.T) {
		p := raisedPair(t, (*proxytest.Pod).ServeHTTP2, upgrades)
		for _, refused := range []string{text, "CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n"} {
			response := askRaw(t, p, refused)
			require.Equal(t, http.StatusNotImplemented, response.StatusCode)
			require.Equal(t, "http2_only", response.Header.Get("Sluice-Error"))
		}
		require.InDelta(t, 2, p.pods[0].Metric("response_total", `direction="inbound"`, `error="http2_only"`, `classification="failure"`), 0)
		_, body := proxytest.Get(t, p.caller.Client(), shop+"/")
		require.Equal(t, "HTTP/2.0", body)
	})
	t.Run("HTTP/1.1 after all", func(t *testing.T) {
		p := raisedPair(t, (*proxytest.Pod).ServeHTTP1, upgrades)
		require.Equal(t, http.StatusSwitchingProtocols, askRaw(t, p, text).StatusCode)
		_, body := proxytest.Get(t, p.caller.Client(), shop+"/")
		require.Equal(t, "HTTP/1.1", body, "whatever was declared")
	})
}

// TestPodsWithoutAProxyAreAskedInHTTP2: the caller's proxy sees to it.
func TestPodsWithoutAProxyAreAskedInHTTP2(t *testing.T) {
	p, destination := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.ServeHTTP2On(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	destination.Endpoints[0].Address, destination.Endpoints[0].Identity, destination.HTTP2 = listener.Addr().String(), "", true
	p.Discovery.SetDestination(destination)
	awaitKnown(t, p)
	_, body := proxytest.Get(t, p.caller.Client(), shop+"/")
	require.Equal(t, "HTTP/2.0", body)
}

// TestRaisedRequestsAtOnce are more than one connection carries.
func TestRaisedRequestsAtOnce(t *testing.T) {
	const requests = 300
	var all sync.WaitGroup
	all.Add(requests)
	p := raisedPair(t, (*proxytest.Pod).ServeHTTP2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all.Done()
		all.Wait()
		_, _ = io.Copy(w, r.Body)
	}))
	client := p.pods[0].OutsideClient()
	var asking sync.WaitGroup
	var failed atomic.Int64
	for i := range requests {
		asking.Go(func() {
			response, err := client.Post(shop+"/", "", strings.NewReader(fmt.Sprint(i)))
			if err != nil {
				failed.Add(1)
				return
			}
			defer response.Body.Close()
			if body, err := io.ReadAll(response.Body); err != nil || string(body) != fmt.Sprint(i) {
				failed.Add(1)
			}
		})
	}
	asking.Wait()
	require.Zero(t, failed.Load())
}

// TestRaisedAnswersAreReadNoFasterThanTheyAreTaken, nor is content sent faster than it is read.
func TestRaisedAnswersAreReadNoFasterThanTheyAreTaken(t *testing.T) {
	var wrote atomic.Int64
	gone := make(chan struct{})
	p := raisedPair(t, (*proxytest.Pod).ServeHTTP2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		for r.Context().Err() == nil {
			n, err := w.Write(make([]byte, 64<<10))
			wrote.Add(int64(n))
			if err != nil {
				return
			}
		}
	}))
	response, err := p.caller.Client().Get(shop + "/")
	require.NoError(t, err)
	before := int64(-1)
	require.Eventually(t, func() bool {
		now := wrote.Load()
		still := now == before
		before = now
		return still && now > 0
	}, time.Minute, 300*time.Millisecond)
	require.Less(t, before, int64(64<<20), "what nobody takes is not read")
	require.NoError(t, response.Body.Close())
	<-gone // Who leaves is missed.
}

func TestClientsThatLeaveAreMissed(t *testing.T) {
	asked, gone := make(chan struct{}), make(chan struct{})
	p := raisedPair(t, (*proxytest.Pod).ServeHTTP2, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(gone)
	}))
	conn, err := p.caller.DialApp(t.Context(), shopVIP)
	require.NoError(t, err)
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 10\r\n\r\nhello")
	require.NoError(t, err)
	<-asked
	require.NoError(t, conn.Close())
	<-gone
}

// TestContentThatNobodyTakesIsGivenUp: the endpoint sees that its request is, and nothing waits for it.
func TestContentThatNobodyTakesIsGivenUp(t *testing.T) {
	p, destination := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var asked, gone atomic.Int64
	p.ServeHTTP2On(listener, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		<-r.Context().Done() // And reads nothing.
		gone.Add(1)
	}))
	destination.Endpoints[0].Address, destination.Endpoints[0].Identity, destination.HTTP2 = listener.Addr().String(), "", true
	destination.Protocol, destination.Timeouts = mesh.ProtocolHTTP1, mesh.Timeouts{Request: 500}
	p.Discovery.SetDestination(destination)
	awaitKnown(t, p)
	for asked.Load() == 0 { // Processors may be so short that nobody is asked in time.
		response, stop := upload(t, p.caller.DialApp)
		require.Equal(t, "request_timeout", response.Header.Get("Sluice-Error"))
		stop()
	}
	require.Eventually(t, func() bool { return gone.Load() == asked.Load() }, 20*time.Second, time.Millisecond,
		"the endpoint still waits for content")
}

// upload sends content without end until it is answered, and then until it is stopped.
func upload(t *testing.T, dial func(context.Context, string) (net.Conn, error)) (_ *http.Response, stop func()) {
	t.Helper()
	conn, err := dial(t.Context(), shopVIP)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000000000\r\n\r\n")
	require.NoError(t, err)
	var writing sync.WaitGroup
	writing.Go(func() {
		for {
			if _, err := conn.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	})
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	return response, func() {
		require.NoError(t, response.Body.Close())
		require.NoError(t, conn.Close())
		writing.Wait()
	}
}

// TestAnswersBeforeTheEndOfTheRequest: who refuses a large upload is heard.
func TestAnswersBeforeTheEndOfTheRequest(t *testing.T) {
	p := raisedPair(t, (*proxytest.Pod).ServeHTTP2, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	}))
	for range 10 {
		response, stop := upload(t, func(ctx context.Context, _ string) (net.Conn, error) { return p.pods[0].DialOutside(ctx) })
		require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
		stop()
	}
}
