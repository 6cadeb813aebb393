// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// application answers as podinfo does.
func application(version string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"version": version, "hostname": "pod-" + version})
	})
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set(HeaderVersion, version)
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write(body)
	})
	return mux
}

func fast(url string) Config {
	config := Default(url)
	config.Rate, config.Timeout = 400, 300*time.Millisecond
	config.StreamPercent, config.SocketPercent = 0, 0
	return config
}

// drive runs a client until it has finished at least n requests.
func drive(t *testing.T, config Config, n uint64) Counts {
	t.Helper()
	client, err := New(config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	require.Eventually(t, func() bool { return client.Counts().Requests >= n }, 10*time.Second, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	counts := client.Counts()
	require.Zero(t, counts.InFlight, "Run finishes what is under way")
	require.Equal(t, counts.Requests, counts.OK+counts.Failed)
	return counts
}

func TestRunCountsWhoAnswered(t *testing.T) {
	server := httptest.NewServer(application("v1"))
	defer server.Close()
	counts := drive(t, fast(server.URL), 200)
	require.Zero(t, counts.Failed, counts.Samples)
	require.Equal(t, counts.Requests, counts.Versions["v1"].Requests)
	require.NotZero(t, counts.Pods["pod-v1"])
	require.Greater(t, counts.P99, 0.0)
	require.GreaterOrEqual(t, counts.P99, counts.P50)
}

func TestRunKeepsConnectionsAndOpensFreshOnes(t *testing.T) {
	var opened atomic.Int64
	server := httptest.NewUnstartedServer(application("v1"))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()

	kept := fast(server.URL)
	kept.FreshPercent = 0
	counts := drive(t, kept, 100)
	require.Zero(t, counts.Failed, counts.Samples)
	require.Less(t, opened.Load(), int64(counts.Requests/2))

	opened.Store(0)
	fresh := fast(server.URL)
	fresh.FreshPercent = 100
	counts = drive(t, fresh, 50)
	require.Zero(t, counts.Failed, counts.Samples)
	require.Equal(t, int64(counts.Requests), opened.Load())
}

// TestRunFailureClasses has servers that fail in each way in which an answer can.
func TestRunFailureClasses(t *testing.T) {
	tests := []struct {
		name  string
		class Class
		serve func(net.Conn, *http.Request)
	}{
		{"resets", ClassReset, func(c net.Conn, _ *http.Request) { _ = c.(*net.TCPConn).SetLinger(0) }},
		{"closes silently", ClassReset, func(net.Conn, *http.Request) {}},
		{"ends inside the head", ClassTruncated, func(c net.Conn, _ *http.Request) { fmt.Fprint(c, "HTTP/1.1 200 O") }},
		{"ends inside the body", ClassTruncated, func(c net.Conn, _ *http.Request) {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
		}},
		{"ends inside a chunk", ClassTruncated, func(c net.Conn, _ *http.Request) {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n")
		}},
		{"stalls before the answer", ClassTimeout, func(_ net.Conn, r *http.Request) { <-r.Context().Done() }},
		{"stalls inside the body", ClassTimeout, func(c net.Conn, r *http.Request) {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
			<-r.Context().Done()
		}},
		{"answers 503", ClassStatus, func(c net.Conn, _ *http.Request) {
			fmt.Fprint(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		}},
		{"is no HTTP", ClassCorrupt, func(c net.Conn, _ *http.Request) { fmt.Fprint(c, "220 mail.example ESMTP\r\n") }},
		{"breaks its JSON", ClassCorrupt, func(c net.Conn, _ *http.Request) {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{\"a\":")
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := fast(rawServer(t, test.serve))
			config.PostPercent, config.Rate = 0, 100
			counts := drive(t, config, 5)
			require.Equal(t, counts.Requests, counts.Failures[test.class], counts.Failures)
			require.Equal(t, counts.Requests, counts.Versions[NoVersion].Requests)
			require.NotEmpty(t, counts.Samples[0].Detail)
		})
	}
}

func TestRunNoticesAnAlteredEcho(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		body[len(body)/2]++
		_, _ = w.Write(body)
	}))
	defer server.Close()
	config := fast(server.URL)
	config.PostPercent = 100
	counts := drive(t, config, 5)
	require.Equal(t, counts.Requests, counts.Failures[ClassCorrupt])
}

func TestRunNobodyListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	counts := drive(t, fast("http://"+listener.Addr().String()), 5)
	require.Equal(t, counts.Requests, counts.Failures[ClassConnect])
}

// TestNoRequestIsSentTwice is the point of the package: a kept-alive connection that dies under a
// request is a failure, for GET too, and the server sees each request once.
func TestNoRequestIsSentTwice(t *testing.T) {
	var seen atomic.Uint64
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request) {
		if seen.Add(1)%2 == 0 {
			panic(http.ErrAbortHandler) // closes the connection without an answer
		}
	}))
	defer server.Close()
	config := fast(server.URL)
	config.FreshPercent, config.PostPercent, config.Connections = 0, 0, 1
	counts := drive(t, config, 40)
	require.Equal(t, counts.Requests, seen.Load())
	require.InDelta(t, counts.Requests/2, counts.Failures[ClassReset], 1)
}

// TestIdleCloseIsNoFailure: a server may close a connection on which nothing is asked.
func TestIdleCloseIsNoFailure(t *testing.T) {
	server := httptest.NewUnstartedServer(application("v1"))
	server.Config.IdleTimeout = 20 * time.Millisecond
	server.Start()
	defer server.Close()
	config := fast(server.URL)
	config.FreshPercent, config.Connections, config.Rate = 0, 1, 10 // a request every 100 ms
	counts := drive(t, config, 8)
	require.Zero(t, counts.Failed, counts.Samples)
}

func TestWaitForTargetCountsNothing(t *testing.T) {
	var ready atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Swap(true) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	client, err := New(fast(server.URL))
	require.NoError(t, err)
	require.NoError(t, client.WaitForTarget(t.Context()))
	require.Zero(t, client.Counts().Requests)

	began := time.Now()
	client.recorder.begin()
	client.Reset()
	client.recorder.finish(result{class: ClassTimeout}, began)
	require.Zero(t, client.Counts().Requests, "it began before")
	require.Zero(t, client.Counts().InFlight)
}

func TestHandler(t *testing.T) {
	server := httptest.NewServer(application("v1"))
	defer server.Close()
	client, err := New(fast(server.URL))
	require.NoError(t, err)
	client.recorder.begin()
	client.recorder.finish(client.once(t.Context(), request{method: "GET", path: "/", host: "x", fresh: true}), time.Now())
	client.recorder.begin()
	client.recorder.finish(result{class: ClassReset}, time.Now())

	get := func(method, path string) string {
		recorder := httptest.NewRecorder()
		client.Handler().ServeHTTP(recorder, httptest.NewRequest(method, path, nil))
		require.Less(t, recorder.Code, 300)
		return recorder.Body.String()
	}
	var counts Counts
	require.NoError(t, json.Unmarshal([]byte(get("GET", "/counts")), &counts))
	require.EqualValues(t, 2, counts.Requests)
	require.EqualValues(t, 1, counts.Versions["v1"].Latency.Count())
	require.Contains(t, get("GET", "/metrics"), `load_failures_total{class="reset",version="none"} 1`)
	get("POST", "/reset")
	require.Zero(t, client.Counts().Requests)
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"URL":   func(c *Config) { c.URL = "podinfo:9898" },
		"https": func(c *Config) { c.URL = "https://podinfo" },
		"rate":  func(c *Config) { c.Rate = 0 },
		"fresh": func(c *Config) { c.FreshPercent = 101 },
	} {
		config := Default("http://podinfo")
		change(&config)
		_, err := New(config)
		require.Error(t, err, name)
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	require.Zero(t, h.Quantile(0.99))
	for i := 1; i <= 1000; i++ {
		h.Observe(time.Duration(i) * time.Millisecond)
	}
	require.InEpsilon(t, 500*time.Millisecond, h.Quantile(0.5), 0.06)
	require.InEpsilon(t, 990*time.Millisecond, h.Quantile(0.99), 0.06)
	earlier := h.Add(Histogram{})
	h.Observe(time.Microsecond)
	since := h.Sub(earlier)
	require.EqualValues(t, 1, since.Count())
	require.Equal(t, firstEdge, since.Quantile(0.99))
	require.EqualValues(t, 2001, h.Add(earlier).Count())
}

// rawServer reads one request per connection, lets serve answer, and closes.
func rawServer(t *testing.T, serve func(net.Conn, *http.Request)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var open sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		open.Wait()
	})
	open.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					serve(c, r.WithContext(ctx))
				}
			})
		}
	})
	return "http://" + listener.Addr().String()
}

func TestMergeAndSub(t *testing.T) {
	at := time.Unix(100, 0)
	one, two := newRecorder(at), newRecorder(at.Add(time.Second))
	for _, r := range []*recorder{one, two} {
		r.begin()
		r.finish(result{version: "v1", pod: "a", took: time.Millisecond}, at.Add(time.Second))
		r.begin()
		r.finish(result{version: "v2", class: ClassStatus, took: time.Second}, at.Add(time.Second))
	}
	both := Merge(one.snapshot(), two.snapshot())
	require.EqualValues(t, 4, both.Requests)
	require.EqualValues(t, 2, both.Failures[ClassStatus])
	require.EqualValues(t, 2, both.Pods["a"])
	require.Equal(t, at, both.Since)
	since := both.Versions["v2"].Sub(one.snapshot().Versions["v2"])
	require.EqualValues(t, 1, since.Failures[ClassStatus])
	require.EqualValues(t, 1, since.Failed())
	require.InEpsilon(t, time.Second, since.Latency.Quantile(0.5), 0.06)
}
