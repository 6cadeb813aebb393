// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// TestSoakApplicationsThatCloseIdleConnections: requests that must not be sent twice come just when the application
// closes the connection that the one before has used. None fails, and each is seen once.
func TestSoakApplicationsThatCloseIdleConnections(t *testing.T) {
	p, _ := newPair(t, []string{"s1"}, func(string) http.Handler { return nil })
	var mutex sync.Mutex
	seen := map[string]int{}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{IdleTimeout: soakIdle, ReadHeaderTimeout: time.Minute, Protocols: protocols, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mutex.Lock()
		defer mutex.Unlock()
		seen[string(body)]++
	})}
	listener, ended := p.pods[0].Listen(), make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	clients := map[string]func() *http.Client{
		"HTTP/1.1": p.caller.Client, "HTTP/2": p.caller.HTTP2Client, "HTTP/1.1 outside": p.pods[0].OutsideClient, "HTTP/2 outside": p.pods[0].OutsideHTTP2Client,
	}
	until, sent := time.Now().Add(soakTime), 0
	var posting sync.WaitGroup
	for name, clientOf := range clients {
		for i := range 4 {
			client := clientOf()
			posting.Go(func() {
				posted := postUntil(t, client, fmt.Sprintf("%s %d", name, i), until)
				mutex.Lock()
				defer mutex.Unlock()
				sent += posted
			})
		}
	}
	posting.Wait()
	require.Positive(t, sent)
	require.Len(t, seen, sent)
	for body, times := range seen {
		require.Equal(t, 1, times, body)
	}
	for _, pod := range []*proxytest.Pod{p.caller, p.pods[0]} {
		require.Zero(t, pod.Metric("response_total", `classification="failure"`))
	}
}

// postUntil posts at the pace at which the application closes what is idle, and counts.
func postUntil(t *testing.T, client *http.Client, name string, until time.Time) (posted int) {
	tick := time.NewTicker(soakIdle)
	defer tick.Stop()
	for time.Now().Before(until) {
		response, err := client.Post(shop+"/", "text/plain", bytes.NewReader(fmt.Appendf(nil, "%s %d", name, posted)))
		if err != nil {
			t.Error(err)
			return posted
		}
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s %d: %s %s", name, posted, response.Status, response.Header.Get("Sluice-Error"))
		}
		_ = response.Body.Close()
		posted++
		<-tick.C
	}
	return posted
}
