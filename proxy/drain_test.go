// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// drainer starts a pod that drains slowly enough to be looked at.
func drainer(t *testing.T, linger, deadline time.Duration, handler http.Handler) *proxytest.Pod {
	t.Helper()
	m := proxytest.New(t)
	pod := m.Start(proxytest.PodSpec{Name: "shop", Workload: "shop/shop", Hash: "s1", Linger: linger, Deadline: deadline})
	pod.Serve(handler)
	return pod
}

func TestDrainingGoesOnAccepting(t *testing.T) {
	pod := drainer(t, time.Second, 10*time.Second, named("s1"))
	client := pod.OutsideClient()
	response, err := client.Get(shop + "/")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.False(t, response.Close)
	pod.Drain()
	require.Eventually(t, func() bool {
		response, err := client.Get(shop + "/")
		if err != nil {
			t.Error(err)
			return true
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		return response.Close // Clients are asked to go elsewhere.
	}, time.Minute, 5*time.Millisecond)
	status, body := proxytest.Get(t, pod.OutsideClient(), shop+"/")
	require.Equal(t, 200, status, "new connections are still served")
	require.Equal(t, "s1", body)
	status, _ = pod.AdminGet("/ready")
	require.Equal(t, 200, status)
	select {
	case <-pod.Ended():
	case <-time.After(8 * time.Second):
		t.Fatal("nothing is open and the proxy has not left")
	}
}

func TestDrainingWaitsForWhatIsOpen(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	pod := drainer(t, 10*time.Millisecond, 10*time.Second, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "late")
	}))
	got := make(chan string, 1)
	go func() {
		_, body := proxytest.Get(t, pod.OutsideClient(), shop+"/")
		got <- body
	}()
	<-entered
	pod.Drain()
	select {
	case <-pod.Ended():
		t.Fatal("the proxy left a request behind")
	case <-time.After(200 * time.Millisecond):
	}
	close(release)
	require.Equal(t, "late", <-got)
	<-pod.Ended()
}

// TestDrainingDoesNotWaitForWhatCannotBeServed: a monitoring system goes on asking the pod itself,
// whose application has gone.
func TestDrainingDoesNotWaitForWhatCannotBeServed(t *testing.T) {
	m := proxytest.New(t)
	pod := m.Start(proxytest.PodSpec{Name: "shop", Workload: "shop/shop", Hash: "s1", Linger: 200 * time.Millisecond, Deadline: time.Hour})
	client := pod.OutsideClient()
	pod.Drain()
	patience := time.After(8 * time.Second)
	for asked := 0; ; asked++ {
		select {
		case <-pod.Ended():
			require.NotZero(t, asked)
			return
		case <-patience:
			t.Fatalf("the proxy stays for requests that it cannot serve, %d so far", asked)
		default:
		}
		response, err := client.Get(shop + "/metrics")
		if err != nil {
			continue // The proxy is leaving.
		}
		require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
		require.NoError(t, response.Body.Close())
	}
}

func TestDrainingEndsAtTheDeadline(t *testing.T) {
	entered := make(chan struct{})
	pod := drainer(t, 10*time.Millisecond, 100*time.Millisecond, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}))
	failed := make(chan error, 1)
	go func() {
		response, err := pod.OutsideClient().Get(shop + "/")
		if err == nil {
			err = response.Body.Close()
		}
		failed <- err
	}()
	<-entered
	pod.Drain()
	<-pod.Ended()
	require.Error(t, <-failed)
}

// TestCutRequestsAreNotSentAgain cuts a POST at the drain deadline: its application has seen it, so
// the caller's proxy must not take the end of the connection for that of an idle one.
func TestCutRequestsAreNotSentAgain(t *testing.T) {
	var seen atomic.Int64
	entered := make(chan struct{}, 2)
	m := proxytest.New(t)
	caller := m.Start(proxytest.PodSpec{Name: "caller", Workload: "shop/caller", Hash: "c1"})
	destination := mesh.Destination{Address: shopVIP}
	var pods []*proxytest.Pod
	for _, name := range []string{"shop-1", "shop-2"} {
		pod := m.Start(proxytest.PodSpec{Name: name, Workload: "shop/shop", Hash: "s1", Deadline: 100 * time.Millisecond})
		pod.Serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			seen.Add(1)
			entered <- struct{}{}
			<-r.Context().Done()
		}))
		destination.Endpoints = append(destination.Endpoints, pod.Endpoint())
		pods = append(pods, pod)
	}
	m.Discovery.SetDestination(destination)
	status := make(chan int, 1)
	go func() {
		response, err := caller.Client().Post(shop+"/", "text/plain", strings.NewReader("order"))
		if err != nil {
			status <- 0
			return
		}
		_ = response.Body.Close()
		status <- response.StatusCode
	}()
	<-entered
	for _, pod := range pods {
		pod.Drain()
	}
	require.Equal(t, http.StatusBadGateway, <-status)
	require.EqualValues(t, 1, seen.Load())
	for _, pod := range pods {
		<-pod.Ended()
	}
}

// holding is what lies under TLS. It keeps back what is written from some moment on.
type holding struct {
	net.Conn
	kept         bytes.Buffer
	holds, ended bool
}

func (h *holding) Write(p []byte) (int, error) {
	if h.holds {
		return h.kept.Write(p)
	}
	return h.Conn.Write(p)
}

func (h *holding) Read(p []byte) (int, error) {
	h.holds = true // The first flight has been written.
	n, err := h.Conn.Read(p)
	h.ended = h.ended || err != nil
	return n, err
}

// TestConnectionsThatBeginAtTheEnd: for the side that connects a handshake ends earlier than for the
// other. What it has sent by then when the proxy ends was not seen, and it is told so.
func TestConnectionsThatBeginAtTheEnd(t *testing.T) {
	for _, test := range []struct {
		protocol, sent string
		told           func(*testing.T, io.Reader)
	}{
		{mesh.ALPNHTTP1, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n", func(*testing.T, io.Reader) {}},
		{mesh.ALPNHTTP2, requestOfHTTP2(t), func(t *testing.T, answer io.Reader) {
			framer := h2.NewFramer(nil, answer)
			for {
				frame, err := framer.ReadFrame()
				require.NoError(t, err)
				if away, ok := frame.(*h2.GoAwayFrame); ok {
					require.Zero(t, away.LastStreamID)
					require.Equal(t, h2.ErrCodeNo, away.ErrCode)
					return
				}
			}
		}},
	} {
		t.Run(test.protocol, func(t *testing.T) {
			m := proxytest.New(t)
			pod := m.Start(proxytest.PodSpec{Name: "shop", Workload: "shop/shop", Hash: "s1", Deadline: time.Minute})
			pod.Serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("carried by a proxy that has ended") }))
			raw, err := pod.DialOutside(t.Context())
			require.NoError(t, err)
			held := &holding{Conn: raw}
			config := identity.ClientConfig(m.CA.Source(t, "shop", "default"), m.CA, m.CA.ID("shop", "default"))
			config.NextProtos = []string{test.protocol}
			conn := tls.Client(held, config)
			require.NoError(t, conn.HandshakeContext(t.Context()))
			_, err = io.WriteString(conn, test.sent)
			require.NoError(t, err)

			pod.Drain()
			require.Eventually(t, func() bool {
				late, err := pod.DialOutside(t.Context())
				if err == nil {
					_ = late.Close()
				}
				return err != nil
			}, time.Minute, time.Millisecond, "the proxy ends")
			_, err = held.kept.WriteTo(raw)
			require.NoError(t, err)
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
			test.told(t, conn)
			_, err = io.Copy(io.Discard, conn)
			require.NoError(t, err)
			require.False(t, held.ended, "TLS says that it ends")
			require.NoError(t, conn.Close())
			<-pod.Ended()
		})
	}
}

func requestOfHTTP2(t *testing.T) string {
	t.Helper()
	var sent, block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "shop"}, {":path", "/"}} {
		require.NoError(t, encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}))
	}
	sent.WriteString(h2.ClientPreface)
	framer := h2.NewFramer(&sent, nil)
	require.NoError(t, framer.WriteSettings())
	require.NoError(t, framer.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}))
	return sent.String()
}
