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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// echoStream answers with what it was sent as it comes, and with trailers.
func echoStream(string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Proto", r.Proto)
		w.Header().Set("X-Method", r.Method)
		w.Header().Set("X-Target", r.RequestURI)
		w.Header().Set("X-Host", r.Host)
		for name, values := range r.Header {
			w.Header()["X-Got-"+name] = values
		}
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		n, err := io.Copy(flushing{w}, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Sum", fmt.Sprintf("%d %s", n, r.Trailer.Get("X-Sum")))
	})
}

type flushing struct{ http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	_ = http.NewResponseController(f.ResponseWriter).Flush()
	return n, err
}

func TestStreamsAreCarried(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, echoStream)
	const self = "spiffe://cluster.local/ns/shop/sa/default"
	for name, test := range map[string]struct {
		client *http.Client
		id     string
	}{
		"meshed":   {p.caller.HTTP2Client(), self},
		"unmeshed": {p.pods[0].OutsideHTTP2Client(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop+"/a%2Fb//c?x=1&y", io.NopCloser(strings.NewReader("hello")))
			require.NoError(t, err)
			request.Host = "shop.example:80"
			request.Header.Set("Sluice-Client-Id", "spiffe://cluster.local/ns/evil/sa/evil")
			request.Header.Set("Sluice-Handoff", "1")
			request.Trailer = http.Header{"X-Sum": {"five"}, "Sluice-Client-Id": {"evil"}}
			response, err := test.client.Do(request)
			require.NoError(t, err)
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Equal(t, "hello", string(body))
			require.Equal(t, "5 five", response.Trailer.Get("X-Sum"))
			header := response.Header
			require.Equal(t, "HTTP/2.0", response.Proto)
			require.Equal(t, "HTTP/2.0", header.Get("X-Proto"))
			require.Equal(t, "POST", header.Get("X-Method"))
			require.Equal(t, "/a%2Fb//c?x=1&y", header.Get("X-Target"))
			require.Equal(t, "shop.example:80", header.Get("X-Host"))
			require.Equal(t, test.id, header.Get("X-Got-Sluice-Client-Id"))
			require.Empty(t, header.Get("X-Got-Sluice-Handoff"))
		})
	}
	require.InDelta(t, 1, p.caller.Metric("response_total", `direction="outbound"`, `classification="success"`, `tls="true"`), 0)
	require.InDelta(t, 2, p.pods[0].Metric("response_total", `direction="inbound"`, `classification="success"`), 0)
	require.InDelta(t, 1, p.caller.Metric("tcp_open_total", `peer="dst"`), 0)
}

// TestEachStreamFollowsTheWeights: the requests of one connection are shared as those of many are.
func TestEachStreamFollowsTheWeights(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "s1", "k1"}, named)
	destination.Splits = []mesh.Split{split(75, 25)}
	p.Discovery.SetDestination(destination)
	client := p.caller.HTTP2Client()
	const requests = 1000
	canary := 0
	for range requests {
		status, body := proxytest.Get(t, client, shop+"/")
		require.Equal(t, 200, status)
		if body == "k1" {
			canary++
		}
	}
	require.InDelta(t, requests/4, canary, requests*0.05)
	for i, pod := range p.pods {
		require.NotZero(t, pod.Metric("response_total", `direction="inbound"`, `status_code="200"`), i)
	}
	require.InDelta(t, 1, p.caller.Metric("tcp_open_total", `peer="src"`), 0, "of the client")
	require.InDelta(t, 3, p.caller.Metric("tcp_open_total", `peer="dst"`), 0, "to each pod")
}

func TestUnmeshedStreamsFollowTheWeights(t *testing.T) {
	p, _ := newPair(t, []string{"s1", "k1"}, named)
	weights := split(50, 50)
	p.setInbound(t, &weights)
	client := p.pods[0].OutsideHTTP2Client()
	canary := 0
	for range 400 {
		if _, body := proxytest.Get(t, client, shop+"/"); body == "k1" {
			canary++
		}
	}
	require.InDelta(t, 200, canary, 60)
}

// TestLargeStreams: many streams of both directions at once, larger than all windows.
func TestLargeStreams(t *testing.T) {
	p, _ := newPair(t, []string{"s1", "s1"}, echoStream)
	client := p.caller.HTTP2Client()
	content := bytes.Repeat([]byte("0123456789abcdef"), 100<<10)
	var streams sync.WaitGroup
	for range 20 {
		streams.Go(func() {
			response, err := client.Post(shop+"/", "application/octet-stream", bytes.NewReader(content))
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || !bytes.Equal(body, content) {
				t.Errorf("%d bytes came back: %v", len(body), err)
			}
		})
	}
	streams.Wait()
}

// TestSlowStreamsHoldUpNobody: an answer that nobody reads stops its sender and nothing else.
func TestSlowStreamsHoldUpNobody(t *testing.T) {
	const large = 2 << 20 // More than there is room for on the way.
	p, _ := newPair(t, []string{"s1"}, only(func(w http.ResponseWriter, r *http.Request) {
		size := 1 << 10
		if r.URL.Path == "/large" {
			size = large
		}
		_, _ = w.Write(make([]byte, size))
	}))
	client := p.caller.HTTP2Client()
	// Otherwise it takes 4 MiB of each before it slows anybody down.
	client.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
	var unread []*http.Response
	for range 20 {
		response, err := client.Get(shop + "/large")
		require.NoError(t, err)
		unread = append(unread, response)
	}
	for range 100 {
		status, body := proxytest.Get(t, client, shop+"/")
		require.Equal(t, 200, status)
		require.Len(t, body, 1<<10)
	}
	for _, response := range unread {
		n, err := io.Copy(io.Discard, response.Body)
		require.NoError(t, err)
		require.EqualValues(t, large, n)
		require.NoError(t, response.Body.Close())
	}
}

// TestStreamsTalkBothWays: each side waits for what the other says.
// converse says words, each when the one before has come back, and returns the answer when it has said all.
func converse(t *testing.T, client *http.Client, words int) *http.Response {
	t.Helper()
	reader, writer := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop+"/", reader)
	require.NoError(t, err)
	response, err := client.Do(request)
	require.NoError(t, err)
	for i := range words {
		said := fmt.Sprintf("%05d", i)
		_, err = io.WriteString(writer, said)
		require.NoError(t, err)
		answer := make([]byte, len(said))
		_, err = io.ReadFull(response.Body, answer)
		require.NoError(t, err)
		require.Equal(t, said, string(answer))
	}
	require.NoError(t, writer.Close())
	return response
}

func TestStreamsTalkBothWays(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, echoStream)
	response := converse(t, p.caller.HTTP2Client(), 100)
	defer response.Body.Close()
	_, err := io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	require.Equal(t, "500", strings.TrimSpace(response.Trailer.Get("X-Sum")))
}

// TestCanceledStreamsEndAtTheApplication, and what is open is no longer counted.
func TestCanceledStreamsEndAtTheApplication(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	p, _ := newPair(t, []string{"s1"}, only(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			return
		}
		close(began)
		<-r.Context().Done()
		close(ended)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, shop+"/wait", nil)
	require.NoError(t, err)
	client := p.caller.HTTP2Client()
	_, err = client.Do(request)
	require.ErrorIs(t, err, context.Canceled)
	<-ended
	require.Eventually(t, func() bool {
		return p.caller.Metric("response_total", `error="canceled"`) == 1
	}, time.Minute, 5*time.Millisecond)
	status, _ := proxytest.Get(t, client, shop+"/")
	require.Equal(t, 200, status, "the connections go on")
	require.InDelta(t, 1, p.caller.Metric("tcp_open_total", `peer="dst"`), 0)
}

func TestStreamsLeavePodsWhoseApplicationRefuses(t *testing.T) {
	serving := 0
	p, _ := newPair(t, []string{"s1", "s1"}, func(hash string) http.Handler {
		serving++
		if serving == 1 {
			return nil
		}
		return echoStream(hash)
	})
	p.setInbound(t, nil)
	for name, client := range map[string]*http.Client{"meshed": p.caller.HTTP2Client(), "unmeshed": p.pods[0].OutsideHTTP2Client()} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				response := order(t, client)
				require.Empty(t, response.Header.Get("X-Got-Sluice-Handoff"))
			}
		})
	}
}

func TestStreamsThatCanGoNowhere(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	client := p.caller.HTTP2Client()
	response, err := client.Get(shop + "/")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.Equal(t, "connect", response.Header.Get("Sluice-Error"))
	response, err = client.Post(shop+"/", "application/grpc", strings.NewReader("\x00\x00\x00\x00\x00"))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "14", response.Header.Get("Grpc-Status"))
}

// TestApplicationsThatStop: what an application that is told to stop has begun is answered, and the
// rest is served by another.
func TestApplicationsThatStop(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "s1"}, func(string) http.Handler { return nil })
	p.setInbound(t, nil) // What comes to the one that stops is passed on.
	began, goOn := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			close(began)
			<-goOn
		}
		_, _ = io.WriteString(w, "served")
	})
	stop := p.pods[0].Serve(handler)
	first := destination
	first.Endpoints = destination.Endpoints[:1]
	p.Discovery.SetDestination(first)
	client := p.caller.HTTP2Client()
	waited := make(chan string)
	go func() {
		_, body := proxytest.Get(t, client, shop+"/wait")
		waited <- body
	}()
	<-began
	p.pods[1].Serve(handler)
	p.Discovery.SetDestination(destination)
	p.Discovery.AwaitAcknowledged(t, "caller")
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	for range 100 {
		status, body := proxytest.Get(t, client, shop+"/")
		require.Equal(t, 200, status)
		require.Equal(t, "served", body)
	}
	close(goOn)
	require.Equal(t, "served", <-waited)
	<-stopped
}

// TestDrainingProxiesSendStreamsAway: streams are carried to their end, new ones go elsewhere, none
// fails.
func TestDrainingProxiesSendStreamsAway(t *testing.T) {
	p, destination := newPair(t, []string{"s1", "s1"}, named)
	client := p.caller.HTTP2Client()
	var failed, asked int
	for i := range 300 {
		if i == 100 {
			p.pods[0].Drain()
		}
		if i == 200 {
			destination.Endpoints = destination.Endpoints[1:]
			p.Discovery.SetDestination(destination)
		}
		asked++
		if status, _ := proxytest.Get(t, client, shop+"/"); status != 200 {
			failed++
		}
	}
	require.Zero(t, failed, "of %d", asked)
}

// TestOldProxiesCarryStreamsAsBytes: a proxy that does not know HTTP/2 is offered bytes as well.
func TestOldProxiesCarryStreamsAsBytes(t *testing.T) {
	p, destination := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	config := identity.ServerConfig(p.CA.Source(t, "shop", "default"), p.CA, p.CA.ID("shop", "default").TrustDomain())
	config.NextProtos = []string{mesh.ALPNHTTP1, mesh.ALPNTCP}
	p.ServeOn(hidingTLS{tls.NewListener(plain, config)}, echoStream(""))
	destination.Endpoints[0].Address = plain.Addr().String()
	p.Discovery.SetDestination(destination)
	for range 3 {
		response, err := p.caller.HTTP2Client().Post(shop+"/", "text/plain", strings.NewReader("order"))
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, "order", string(body))
		require.Equal(t, "HTTP/2.0", response.Header.Get("X-Proto"))
	}
}

// hidingTLS hands out connections that do not look like TLS, as an old proxy's to its application.
type hidingTLS struct{ net.Listener }

func (l hidingTLS) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return struct{ net.Conn }{conn}, err
}

// TestGRPCStatusIsCounted, in trailers and in answers without content.
func TestGRPCStatusIsCounted(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, only(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		if r.URL.Path == "/head" {
			w.Header().Set("Grpc-Status", r.URL.RawQuery)
			return
		}
		_, _ = w.Write([]byte("\x00\x00\x00\x00\x00"))
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", r.URL.RawQuery)
	}))
	client := p.caller.HTTP2Client()
	for _, path := range []string{"/head", "/trailer"} {
		for _, status := range []string{"0", "5", "13", "nonsense"} {
			response, err := client.Post(shop+path+"?"+status, "application/grpc", strings.NewReader("\x00\x00\x00\x00\x00"))
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, response.Body)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
		}
	}
	for _, pod := range []*proxytest.Pod{p.caller, p.pods[0]} {
		require.InDelta(t, 2, pod.Metric("response_total", `grpc_status="0"`, `classification="success"`), 0)
		require.InDelta(t, 2, pod.Metric("response_total", `grpc_status="5"`, `classification="success"`), 0)
		require.InDelta(t, 2, pod.Metric("response_total", `grpc_status="13"`, `classification="failure"`), 0)
		require.InDelta(t, 2, pod.Metric("response_total", `grpc_status="other"`, `classification="failure"`), 0)
	}
}
