// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
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
	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// newOldPair is a caller and a pod whose application speaks only HTTP/1.1.
func newOldPair(t *testing.T, handler http.Handler) *pair {
	t.Helper()
	p, _ := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	p.pods[0].ServeHTTP1(handler)
	return p
}

// streamClients speak HTTP/2 through two proxies, and through one.
func (p *pair) streamClients() map[string]*http.Client {
	return map[string]*http.Client{"meshed": p.caller.HTTP2Client(), "unmeshed": p.pods[0].OutsideHTTP2Client()}
}

func do(t *testing.T, client *http.Client, request *http.Request) (*http.Response, string) {
	t.Helper()
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, "HTTP/2.0", response.Proto)
	return response, string(body)
}

func TestDowngradedRequests(t *testing.T) {
	p := newOldPair(t, echo(""))
	large := strings.Repeat("0123456789abcdef", 64<<10)
	for name, client := range p.streamClients() {
		for _, test := range []struct {
			method, body     string
			length           int64
			encoding, stated string
		}{
			{"GET", "", 0, "", "0"},
			{"HEAD", "", 0, "", "0"},
			{"DELETE", "", 0, "", "0"},
			{"BREW", "", 0, "", "0"},
			{"POST", "", 0, "", "0"},
			{"POST", "hello", 5, "", "5"},
			{"PUT", "hello", -1, "chunked", "-1"},
			{"POST", large, int64(len(large)), "", fmt.Sprint(len(large))},
			{"PATCH", large, -1, "chunked", "-1"},
		} {
			t.Run(fmt.Sprint(name, test.method, len(test.body), test.encoding), func(t *testing.T) {
				request, err := http.NewRequestWithContext(t.Context(), test.method, shop+"/a%2Fb//c?x=1&y", nil)
				require.NoError(t, err)
				if test.body != "" {
					request.Body, request.ContentLength = io.NopCloser(strings.NewReader(test.body)), test.length
				}
				request.Host = "shop.example:80"
				request.Header["Cookie"] = []string{"a=1; b=2", "c=3"} // net/http cuts them into crumbs.
				request.Header.Set("Sluice-Handoff", "1")
				response, body := do(t, client, request)
				header := response.Header
				require.Equal(t, 200, response.StatusCode)
				require.Equal(t, "HTTP/1.1", header.Get("X-Proto"))
				require.Equal(t, test.method, header.Get("X-Method"))
				require.Equal(t, "/a%2Fb//c?x=1&y", header.Get("X-Target"))
				require.Equal(t, "shop.example:80", header.Get("X-Host"))
				require.Equal(t, []string{"a=1; b=2; c=3"}, header["X-Got-Cookie"])
				require.Equal(t, test.encoding, header.Get("X-Encoding"))
				require.Equal(t, test.stated, header.Get("X-Length"))
				require.Empty(t, header.Get("X-Got-Sluice-Handoff"))
				require.Equal(t, name == "meshed", header.Get("X-Got-Sluice-Client-Id") != "")
				require.True(t, body == test.body, "%d bytes came back", len(body))
			})
		}
	}
}

func TestDowngradedTrailers(t *testing.T) {
	p := newOldPair(t, only(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Announced")
		w.Header().Set("X-Te", r.Header.Get("Te"))
		_, _ = w.Write(body)
		w.Header().Set("X-Announced", r.Trailer.Get("X-Sum"))
		w.Header().Set(http.TrailerPrefix+"X-Surprise", "yes")
	})(""))
	for name, client := range p.streamClients() {
		for _, length := range []int64{5, -1} {
			t.Run(fmt.Sprint(name, length), func(t *testing.T) {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop+"/", io.NopCloser(strings.NewReader("hello")))
				require.NoError(t, err)
				request.ContentLength = length
				request.Header.Set("Te", "trailers")
				request.Trailer = http.Header{"X-Sum": {"42"}, "Sluice-Client-Id": {"evil"}}
				response, body := do(t, client, request)
				require.Equal(t, "hello", body)
				require.Equal(t, "trailers", response.Header.Get("X-Te"))
				require.Equal(t, "42", response.Trailer.Get("X-Announced"))
				require.Equal(t, "yes", response.Trailer.Get("X-Surprise"))
			})
		}
	}
}

func TestDowngradedInterimAnswers(t *testing.T) {
	p := newOldPair(t, only(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.Copy(w, r.Body)
	})(""))
	for name, client := range p.streamClients() {
		t.Run(name, func(t *testing.T) {
			var interim []int
			continued := false
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
					interim = append(interim, code)
					return nil
				},
				Got100Continue: func() { continued = true },
			})
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, shop+"/", strings.NewReader("hello"))
			require.NoError(t, err)
			request.Header.Set("Expect", "100-continue")
			client.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
			_, body := do(t, client, request)
			require.Equal(t, "hello", body)
			require.Contains(t, interim, http.StatusEarlyHints)
			require.True(t, continued || !strings.Contains(fmt.Sprint(interim), "100"))
		})
	}
}

func TestDowngradedAnswersWithoutContent(t *testing.T) {
	p := newOldPair(t, only(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/head":
			w.Header().Set("Content-Length", "12345")
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/304":
			w.Header().Set("Etag", `"a"`)
			w.WriteHeader(http.StatusNotModified)
		}
		w.Header().Set("Connection", "close, X-Hop")
		w.Header().Set("X-Hop", "1")
	})(""))
	for name, client := range p.streamClients() {
		for _, test := range []struct {
			method, path string
			status       int
			length       int64
		}{{"HEAD", "/head", 200, 12345}, {"GET", "/204", 204, 0}, {"GET", "/304", 304, -1}, {"GET", "/", 200, 0}} {
			t.Run(name+test.path, func(t *testing.T) {
				request, err := http.NewRequestWithContext(t.Context(), test.method, shop+test.path, nil)
				require.NoError(t, err)
				response, body := do(t, client, request)
				require.Empty(t, body)
				require.Equal(t, test.status, response.StatusCode)
				if test.length > 0 {
					require.Equal(t, test.length, response.ContentLength)
				}
				for _, owned := range []string{"Connection", "X-Hop", "Keep-Alive", "Transfer-Encoding"} {
					require.Empty(t, response.Header.Get(owned), owned)
				}
			})
		}
	}
}

func TestDowngradedStreamsTalkBothWays(t *testing.T) {
	p := newOldPair(t, only(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(flushing{w}, r.Body)
	})(""))
	for name, client := range p.streamClients() {
		t.Run(name, func(t *testing.T) {
			response := converse(t, client, 50)
			defer response.Body.Close()
			_, err := response.Body.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

// TestDowngradedEarlyAnswers: an answer to a request that is still coming is whole.
func TestDowngradedEarlyAnswers(t *testing.T) {
	p := newOldPair(t, only(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, "too much")
	})(""))
	for name, client := range p.streamClients() {
		t.Run(name, func(t *testing.T) {
			reader, writer := io.Pipe()
			defer writer.Close()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop+"/", reader)
			require.NoError(t, err)
			response, body := do(t, client, request)
			require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
			require.Equal(t, "too much", body)
		})
	}
}

func TestDowngradedRequestsThatAreCanceled(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	p := newOldPair(t, only(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/wait" {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		close(began)
		<-r.Context().Done()
		close(ended)
	})(""))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, shop+"/wait", strings.NewReader("order"))
	require.NoError(t, err)
	client := p.caller.HTTP2Client()
	_, err = client.Do(request)
	require.ErrorIs(t, err, context.Canceled)
	<-ended
	require.Eventually(t, func() bool {
		return p.pods[0].Metric("response_total", `error="canceled"`, `direction="inbound"`) == 1
	}, time.Minute, 5*time.Millisecond)
	status, _ := proxytest.Get(t, client, shop+"/")
	require.Equal(t, 200, status)
}

func TestDowngradedAnswersThatBreakOff(t *testing.T) {
	p := newOldPair(t, only(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/length":
			w.Header().Set("Content-Length", "100")
		case "/malformed":
			conn, _, _ := http.NewResponseController(w).Hijack()
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
			_ = conn.Close()
			return
		}
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})(""))
	for name, client := range p.streamClients() {
		for _, path := range []string{"/length", "/chunked"} {
			response, err := client.Get(shop + path)
			require.NoError(t, err)
			_, err = io.ReadAll(response.Body)
			require.Error(t, err, name+path)
			require.NoError(t, response.Body.Close())
		}
		response, err := client.Get(shop + "/malformed")
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusBadGateway, response.StatusCode)
		require.Equal(t, "malformed", response.Header.Get("Sluice-Error"))
	}
	require.InDelta(t, 4, p.pods[0].Metric("response_total", `direction="inbound"`, `error="truncated"`), 0)
}

// TestDowngradesHoldLittle: neither side is read faster than the other takes it.
func TestDowngradesHoldLittle(t *testing.T) {
	const enough = 32 << 20
	var wrote atomic.Int64
	goOn := make(chan struct{})
	p := newOldPair(t, only(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/download":
			block := make([]byte, 64<<10)
			for wrote.Load() < enough {
				n, err := w.Write(block)
				if err != nil {
					return
				}
				wrote.Add(int64(n))
			}
		case "/upload":
			<-goOn
			_, _ = io.Copy(io.Discard, r.Body)
		}
	})(""))
	client := p.caller.HTTP2Client()
	client.Timeout = 0 // What is held is not held for a time.
	response, err := client.Get(shop + "/download")
	require.NoError(t, err)
	content := &countingReader{left: enough}
	uploaded := make(chan error, 1)
	go func() {
		answer, err := client.Post(shop+"/upload", "application/octet-stream", content)
		if err == nil {
			err = answer.Body.Close()
		}
		uploaded <- err
	}()
	// What is held stops growing: others are served all the while.
	stable := func(count func() int64) int64 {
		last := int64(-1)
		for same := 0; same < 20; {
			status, _ := proxytest.Get(t, client, shop+"/")
			require.Equal(t, 200, status)
			if now := count(); now == last {
				same++
			} else {
				last, same = now, 0
			}
		}
		return last
	}
	require.Less(t, stable(wrote.Load), int64(enough/2))
	require.Less(t, stable(content.read.Load), int64(enough/2))
	close(goOn)
	require.NoError(t, <-uploaded)
	n, err := io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	require.EqualValues(t, enough, n)
	require.NoError(t, response.Body.Close())
}

type countingReader struct {
	left int64
	read atomic.Int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n := min(int64(len(p)), r.left-r.read.Load())
	if n == 0 {
		return 0, io.EOF
	}
	r.read.Add(n)
	return int(n), nil
}

func TestGRPCIsNotDowngraded(t *testing.T) {
	var carried atomic.Int64
	p := newOldPair(t, only(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			carried.Add(1)
		}
	})(""))
	for name, client := range p.streamClients() {
		for kind, status := range map[string]string{"application/grpc": "12", "application/grpc+proto": "12", "application/grpc-web": ""} {
			response, err := client.Post(shop+"/", kind, strings.NewReader("\x00\x00\x00\x00\x00"))
			require.NoError(t, err, name)
			require.NoError(t, response.Body.Close())
			require.Equal(t, http.StatusOK, response.StatusCode)
			require.Equal(t, status, response.Header.Get("Grpc-Status"), kind)
			if status != "" {
				require.Equal(t, "http1_only", response.Header.Get("Sluice-Error"))
			}
		}
	}
	require.EqualValues(t, 2, carried.Load(), "gRPC-Web is not gRPC")
	require.InDelta(t, 4, p.pods[0].Metric("response_total", `error="http1_only"`, `classification="failure"`), 0)
}

func TestDowngradedConnect(t *testing.T) {
	p := newOldPair(t, only(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "refused:1" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if r.Method != http.MethodConnect {
			return
		}
		tunnelBack(w)
	})(""))
	for name, client := range p.streamClients() {
		t.Run(name, func(t *testing.T) {
			tunnel := func(host string) (*http.Response, *io.PipeWriter) {
				reader, writer := io.Pipe()
				request, err := http.NewRequestWithContext(t.Context(), http.MethodConnect, shop, reader)
				require.NoError(t, err)
				request.Host = host
				response, err := client.Do(request)
				require.NoError(t, err)
				return response, writer
			}
			response, writer := tunnel("example.com:443")
			require.Equal(t, 200, response.StatusCode)
			go func() {
				_, _ = io.WriteString(writer, "through the ")
				_, _ = io.WriteString(writer, "tunnel")
				_ = writer.Close()
			}()
			got, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Equal(t, "through the tunnel", string(got))
			require.NoError(t, response.Body.Close())
			response, writer = tunnel("refused:1")
			require.Equal(t, http.StatusForbidden, response.StatusCode)
			require.NoError(t, response.Body.Close())
			_ = writer.Close()
		})
	}
}

// TestWhatIsSpokenIsLearnedOnce, and forgotten when nobody is there any more.
func TestWhatIsSpokenIsLearnedOnce(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	var asked atomic.Int64
	listener := p.pods[0].Listen()
	p.ServeHTTP1On(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PRI" {
			asked.Add(1)
		}
		w.Header().Set("X-Proto", r.Proto)
		w.Header().Set("Connection", "close")
	}))
	client := p.caller.HTTP2Client()
	spoken := func() string {
		response, err := client.Get(shop + "/")
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return fmt.Sprint(response.StatusCode, response.Header.Get("X-Proto"))
	}
	var requests sync.WaitGroup
	for range 10 {
		requests.Go(func() {
			response, err := client.Get(shop + "/")
			if err == nil {
				err = response.Body.Close()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	requests.Wait()
	for range 20 {
		require.Equal(t, "200HTTP/1.1", spoken())
	}
	require.EqualValues(t, 1, asked.Load())
	require.NoError(t, listener.Close())
	require.Equal(t, "503", spoken())
	p.pods[0].Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Proto", r.Proto) }))
	require.Equal(t, "200HTTP/2.0", spoken())
}

// TestPeersThatSpeakOnlyHTTP1: what another proxy speaks it says itself, and what an application
// behind one that carries bytes speaks is learned through it.
func TestPeersThatSpeakOnlyHTTP1(t *testing.T) {
	for name, protocols := range map[string][]string{
		"requests only": {mesh.ALPNHTTP1}, "bytes as well": {mesh.ALPNHTTP1, mesh.ALPNTCP},
	} {
		t.Run(name, func(t *testing.T) {
			p, destination := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
			plain, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			config := identity.ServerConfig(p.CA.Source(t, "shop", "default"), p.CA, p.CA.ID("shop", "default").TrustDomain())
			config.NextProtos = protocols
			p.ServeHTTP1On(hidingTLS{tls.NewListener(plain, config)}, echo(""))
			destination.Endpoints[0].Address = plain.Addr().String()
			p.Discovery.SetDestination(destination)
			content := bytes.Repeat([]byte("order"), 1000)
			for range 3 {
				response, err := p.caller.HTTP2Client().Post(shop+"/", "text/plain", bytes.NewReader(content))
				require.NoError(t, err)
				body, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				require.NoError(t, response.Body.Close())
				require.Equal(t, string(content), string(body))
				require.Equal(t, "HTTP/1.1", response.Header.Get("X-Proto"))
			}
		})
	}
}

// TestLinksOfDowngradesAreUsedAgain, by whom nothing of the request before touches, though its client
// may break off when the answer is whole.
func TestLinksOfDowngradesAreUsedAgain(t *testing.T) {
	p := newOldPair(t, only(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 32<<10))
	})(""))
	client := p.caller.HTTP2Client()
	status, _ := proxytest.Get(t, client, shop+"/")
	require.Equal(t, 200, status)
	for i := range 200 {
		response, err := client.Get(shop + "/")
		require.NoError(t, err)
		require.Equal(t, 200, response.StatusCode)
		if i%2 == 0 {
			n, err := io.Copy(io.Discard, response.Body)
			require.NoError(t, err)
			require.EqualValues(t, 32<<10, n)
		}
		require.NoError(t, response.Body.Close())
	}
}

// TestDowngradesOutliveIdleLinks: an application ends what it does not use, at any moment.
func TestDowngradesOutliveIdleLinks(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	listener := p.pods[0].Listen()
	server := &http.Server{Handler: echo(""), IdleTimeout: time.Millisecond}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	client := p.caller.HTTP2Client()
	for range 100 {
		status, _ := proxytest.Get(t, client, shop+"/")
		require.Equal(t, 200, status)
		order(t, client)
	}
}
