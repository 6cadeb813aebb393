// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

func dialApp(t *testing.T, p *pair) net.Conn {
	t.Helper()
	conn, err := p.caller.DialApp(t.Context(), shopVIP)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return conn
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, echo)
	conn := dialApp(t, p)
	var requests strings.Builder
	const count = 50
	for i := range count {
		body := strings.Repeat("x", i*20)
		if i%2 == 0 {
			fmt.Fprintf(&requests, "POST /%d HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n\r\n%s", i, len(body), body)
		} else {
			fmt.Fprintf(&requests, "POST /%d HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", i, len(body), body)
		}
	}
	_, err := io.WriteString(conn, requests.String())
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	for i := range count {
		response, err := http.ReadResponse(reader, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.Len(t, body, i*20)
		require.Equal(t, fmt.Sprintf("/%d", i), response.Header.Get("X-Target"))
	}
}

// TestMalformedRequestsReachNobody sends requests that two recipients could read differently.
func TestMalformedRequestsReachNobody(t *testing.T) {
	var seen atomic.Int64
	p, _ := newPair(t, []string{"s1"}, only(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		seen.Add(1)
	}))
	for request, want := range map[string]struct {
		status int
		code   string
	}{
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": {400, "content_length_and_transfer_encoding"},
		"GET / HTTP/1.1\r\nHost : a\r\n\r\n":                                          {400, "space_before_colon"},
		"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 70<<10) + "\r\n\r\n": {431, "head_large"},
		"GET / HTTP/1.1\r\nHost: a\r\nX: y\n\r\n":                                     {400, "bare_lf"},
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n":      {501, "transfer_encoding_unknown"},
		"GET / HTTP/1.2\r\nHost: a\r\n\r\n":                                           {505, "version"},
	} {
		t.Run(want.code, func(t *testing.T) {
			conn := dialApp(t, p)
			_, err := io.WriteString(conn, request)
			require.NoError(t, err)
			reader := bufio.NewReader(conn)
			response, err := http.ReadResponse(reader, nil)
			require.NoError(t, err)
			require.Equal(t, want.status, response.StatusCode)
			require.Equal(t, want.code, response.Header.Get("Sluice-Error"))
			require.True(t, response.Close)
			_, err = io.ReadAll(response.Body)
			require.NoError(t, err)
			_, err = reader.ReadByte()
			require.ErrorIs(t, err, io.EOF, "the connection ends in good order")
			require.InDelta(t, 1, p.caller.Metric("sluice_http_malformed_total", fmt.Sprintf(`reason=%q`, want.code), `outcome="refused"`), 0)
		})
	}
	require.Zero(t, seen.Load())
}

// TestMalformedContentIsNotTakenForWhole sends half of the content well and then nonsense.
func TestMalformedContentIsNotTakenForWhole(t *testing.T) {
	failed := make(chan error, 1)
	p, _ := newPair(t, []string{"s1"}, only(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		failed <- err
	}))
	conn := dialApp(t, p)
	_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n-1\r\n")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, 400, response.StatusCode)
	require.Equal(t, "chunk_size", response.Header.Get("Sluice-Error"))
	require.Error(t, <-failed)
}

// TestEarlyAnswersDoNotWaitForContent has an application refuse what is still being sent.
func TestEarlyAnswersDoNotWaitForContent(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, only(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	}))
	conn := dialApp(t, p)
	_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegin")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
	require.True(t, response.Close, "what follows cannot be told from content")
}

func TestMalformedAnswersAreRefused(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	serveTCP(t, p.pods[0].Listen(), func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello")
		}
	})
	response, err := p.caller.Client().Get(shop + "/")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusBadGateway, response.StatusCode)
	require.Equal(t, "malformed", response.Header.Get("Sluice-Error"))
}

func TestOldClientsAreAnsweredUntilTheEnd(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, only(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "one ")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "two")
	}))
	conn := dialApp(t, p)
	_, err := io.WriteString(conn, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	head, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	require.Equal(t, "one two", body)
	require.Contains(t, head, "Connection: close")
	require.NotContains(t, head, "chunked")
}

// TestConnectionsAreUsedAgain counts what the proxies dial.
func TestConnectionsAreUsedAgain(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, echo)
	client := p.caller.Client()
	proxytest.Get(t, client, shop+"/")
	caller, callee := p.caller.Dials(), p.pods[0].Dials()
	for range 100 {
		proxytest.Get(t, client, shop+"/")
	}
	require.Equal(t, caller, p.caller.Dials())
	require.LessOrEqual(t, p.pods[0].Dials()-callee, int64(5), "but for pauses longer than those are kept")
}
