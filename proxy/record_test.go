// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

const (
	traceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	traceID     = "0af7651916cd43dd8448eb211c80319c"
	shopID      = "spiffe://cluster.local/ns/shop/sa/default"
)

// written is what a proxy writes until it ends.
type written struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.text.Write(p)
}

func (w *written) String() string {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.text.String()
}

// line is a line of JSON.
type line struct {
	Timestamp     time.Time
	Direction     string
	ClientAddress string `json:"client.addr"`
	ClientID      string `json:"client.id"`
	Host, Method  string
	URI           string
	Version       string
	UserAgent     string `json:"user_agent"`
	TraceID       string `json:"trace_id"`
	RequestBytes  int64  `json:"request_bytes"`
	Status        int
	GRPCStatus    string `json:"grpc_status"`
	Error         string
	ResponseBytes int64  `json:"response_bytes"`
	FirstByte     int64  `json:"first_byte_ns"`
	Total         int64  `json:"total_ns"`
	Endpoint      string `json:"endpoint.addr"`
	Hash          string `json:"endpoint.pod_template_hash"`
}

func (w *written) lines(t *testing.T) []line {
	t.Helper()
	var lines []line
	for text := range strings.Lines(w.String()) {
		var read line
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.DisallowUnknownFields()
		require.NoError(t, decoder.Decode(&read), text)
		require.NotZero(t, read.Timestamp)
		require.NotEmpty(t, read.ClientAddress)
		require.LessOrEqual(t, read.FirstByte, read.Total)
		lines = append(lines, read)
	}
	return lines
}

// logged is a caller and a pod that write access logs.
type logged struct {
	*pair
	caller, pod written
}

func newLogged(t *testing.T, as mesh.AccessLog, handler http.Handler) *logged {
	t.Helper()
	m := proxytest.New(t)
	l := &logged{pair: &pair{Mesh: m}}
	l.pair.caller = m.Start(proxytest.PodSpec{Name: "caller", Workload: "shop/caller", Hash: "c1", AccessLog: as, AccessLogTo: &l.caller})
	pod := m.Start(proxytest.PodSpec{Name: "shop", Workload: "shop/shop", Hash: "s1", AccessLog: as, AccessLogTo: &l.pod})
	if handler != nil {
		pod.Serve(handler)
	}
	l.pods = []*proxytest.Pod{pod}
	m.Discovery.SetDestination(mesh.Destination{
		Address: shopVIP, Service: mesh.Service{Namespace: "shop", Name: "shop", Port: 80}, Endpoints: []mesh.Endpoint{pod.Endpoint()},
	})
	return l
}

// stop ends the proxies, which write what is left.
func (l *logged) stop() {
	l.pair.caller.Stop()
	l.pods[0].Stop()
}

func inJSON() mesh.AccessLog { return mesh.AccessLog{Format: mesh.AccessLogJSON} }

func TestAccessLogTellsOfRequests(t *testing.T) {
	for version, test := range map[string]struct {
		client  func(*proxytest.Pod) *http.Client
		outside func(*proxytest.Pod) *http.Client
	}{
		"HTTP/1.1": {(*proxytest.Pod).Client, (*proxytest.Pod).OutsideClient},
		"HTTP/2.0": {(*proxytest.Pod).HTTP2Client, (*proxytest.Pod).OutsideHTTP2Client},
	} {
		t.Run(version, func(t *testing.T) {
			l := newLogged(t, inJSON(), only(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusTeapot)
				_, _ = io.WriteString(w, "short and stout")
			})(""))
			for _, client := range []*http.Client{test.client(l.pair.caller), test.outside(l.pods[0])} {
				// Of unknown length, so that it comes in pieces.
				content := io.MultiReader(strings.NewReader(strings.Repeat("x", 100_000)), strings.NewReader("y"))
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop+"/pot/a%2Fb?token=hunter2", content)
				require.NoError(t, err)
				request.Host = "shop.example"
				request.Header.Set("User-Agent", `me "quoted"`)
				request.Header.Set("Authorization", "Bearer hunter3")
				request.Header.Set("Cookie", "session=hunter4")
				request.Header.Set("Traceparent", traceParent)
				fetch(t, client, request)
			}
			l.stop()
			want := line{
				Direction: "outbound", Host: "shop.example", Method: "POST", URI: "/pot/a%2Fb", Version: version,
				UserAgent: `me "quoted"`, TraceID: traceID, RequestBytes: 100_001, Status: http.StatusTeapot, ResponseBytes: 15,
				Endpoint: l.pods[0].Address(proxytest.AppPort), Hash: "s1",
			}
			meshed, outside := want, want
			meshed.Direction, meshed.ClientID = "inbound", shopID
			outside.Direction = "inbound"
			require.Equal(t, []line{want}, certain(l.caller.lines(t)))
			// A line is written when its request has ended, which is a moment after its client has the answer.
			require.ElementsMatch(t, []line{meshed, outside}, certain(l.pod.lines(t)))
			require.NotContains(t, l.caller.String()+l.pod.String(), "hunter")
		})
	}
}

// fetch makes a request and reads its answer.
func fetch(t *testing.T, client *http.Client, request *http.Request) *http.Response {
	t.Helper()
	response, err := client.Do(request)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response
}

// certain is what of lines is the same each time.
func certain(lines []line) []line {
	for i := range lines {
		lines[i].Timestamp, lines[i].ClientAddress, lines[i].FirstByte, lines[i].Total = time.Time{}, "", 0, 0
	}
	return lines
}

func TestAccessLogTellsOfFailures(t *testing.T) {
	l := newLogged(t, inJSON(), nil)
	l.Discovery.SetDestination(mesh.Destination{ // Where nobody listens.
		Address: shopVIP, Endpoints: []mesh.Endpoint{{Address: "127.0.0.1:1", Ready: true}},
	})
	for _, client := range []*http.Client{l.pair.caller.Client(), l.pair.caller.HTTP2Client()} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/", nil)
		require.NoError(t, err)
		response := fetch(t, client, request)
		require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shop+"/pkg.Service/Call", strings.NewReader("x"))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/grpc")
	fetch(t, l.pair.caller.HTTP2Client(), request)
	exchangeRaw(t, l.pair, "GET / HTTP/1.1\r\nHost: shop\r\nBad Name: 1\r\n\r\n")
	l.stop()
	type failure struct {
		URI, Version, Error, GRPC string
		Status                    int
	}
	var failures []failure
	for _, line := range l.caller.lines(t) {
		failures = append(failures, failure{line.URI, line.Version, line.Error, line.GRPCStatus, line.Status})
	}
	require.ElementsMatch(t, []failure{ // In which order they end is the machine's.
		{"/", "HTTP/1.1", "connect", "", 503},
		{"/", "HTTP/2.0", "connect", "", 503},
		{"/pkg.Service/Call", "HTTP/2.0", "connect", "14", 200},
		{"", "", "field_name", "", 400},
	}, failures)
}

// TestAccessLogTellsOfClientsThatLeave: and of answers that break off.
func TestAccessLogTellsOfClientsThatLeave(t *testing.T) {
	reached := make(chan struct{}, 4)
	l := newLogged(t, inJSON(), only(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/breaks" {
			_, _ = io.WriteString(w, "so far")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		reached <- struct{}{}
		<-r.Context().Done()
	})(""))
	for _, client := range []*http.Client{l.pair.caller.Client(), l.pair.caller.HTTP2Client()} {
		ctx, leave := context.WithCancel(t.Context())
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, shop+"/leaves", nil)
		require.NoError(t, err)
		go func() {
			<-reached
			leave()
		}()
		_, err = client.Do(request)
		require.ErrorIs(t, err, context.Canceled)
		response, err := client.Get(shop + "/breaks")
		require.NoError(t, err)
		_, err = io.ReadAll(response.Body)
		require.Error(t, err)
		require.NoError(t, response.Body.Close())
	}
	l.stop()
	type failure struct {
		URI, Error string
		Status     int
	}
	failures := map[string][]failure{}
	for _, line := range l.caller.lines(t) {
		failures[line.Version] = append(failures[line.Version], failure{line.URI, line.Error, line.Status})
	}
	want := []failure{{"/leaves", "canceled", 0}, {"/breaks", "truncated", 200}}
	require.ElementsMatch(t, want, failures["HTTP/1.1"])
	require.ElementsMatch(t, want, failures["HTTP/2.0"])
}

func TestAccessLogTellsOfMalformedContent(t *testing.T) {
	l := newLogged(t, inJSON(), echo(""))
	exchangeRaw(t, l.pair, "POST /begun HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\nnone\r\n")
	l.stop()
	lines := l.caller.lines(t)
	require.Len(t, lines, 1)
	require.Equal(t, line{
		Direction: "outbound", Host: "shop", Method: "POST", URI: "/begun", Version: "HTTP/1.1",
		RequestBytes: 1, Status: 400, Error: "chunk_size", ResponseBytes: 33,
	}, certain(lines)[0])
}

func TestAccessLogTellsOfTunnels(t *testing.T) {
	l := newLogged(t, inJSON(), only(func(w http.ResponseWriter, _ *http.Request) { tunnelBack(w) })(""))
	conn, err := l.pair.caller.DialApp(t.Context(), shopVIP)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
	require.NoError(t, err)
	require.Equal(t, 200, response.StatusCode)
	require.NoError(t, conn.Close())
	l.stop()
	for _, lines := range [][]line{l.caller.lines(t), l.pod.lines(t)} {
		require.Len(t, lines, 1)
		require.Equal(t, "CONNECT", lines[0].Method)
		require.Equal(t, "example.com:443", lines[0].URI)
		require.Equal(t, 200, lines[0].Status)
	}
}

func TestAccessLogOfApache(t *testing.T) {
	l := newLogged(t, mesh.AccessLog{Format: mesh.AccessLogApache, Query: true}, named("hello"))
	status, _ := proxytest.Get(t, l.pair.caller.Client(), shop+"/a?b=c")
	require.Equal(t, 200, status)
	l.stop()
	require.Empty(t, l.caller.String())
	require.Regexp(t, `^127\.\d+\.\d+\.\d+ - `+shopID+` \[\d+/\w+/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET /a\?b=c HTTP/1\.1" 200 5 "-" "Go-http-client/1\.1"\n$`, l.pod.String())
}

// unread is a log that nobody reads until it is released.
type unread chan struct{}

func (u unread) Write(p []byte) (int, error) {
	<-u
	return len(p), nil
}

// TestRequestsDoNotWaitForTheAccessLog: whoever reads the pod's output may be stuck.
func TestRequestsDoNotWaitForTheAccessLog(t *testing.T) {
	stuck := make(unread)
	m := proxytest.New(t)
	pod := m.Start(proxytest.PodSpec{Name: "shop", Workload: "shop/shop", Hash: "s1", AccessLog: inJSON(), AccessLogTo: stuck})
	pod.Serve(named("hello"))
	client := pod.OutsideClient()
	path := "/" + strings.Repeat("long", 500)
	require.Eventually(t, func() bool {
		status, _ := proxytest.Get(t, client, shop+path)
		require.Equal(t, 200, status)
		return pod.Metric("sluice_access_log_dropped_total") > 0
	}, time.Minute, time.Microsecond)
	close(stuck)
}

func TestAccessLogIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/access-log.md")
	require.NoError(t, err)
	l := newLogged(t, inJSON(), named("hello"))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/", nil)
	require.NoError(t, err)
	request.Header.Set("Traceparent", traceParent)
	fetch(t, l.pair.caller.Client(), request)
	l.stop()
	var fields map[string]any
	require.NoError(t, json.Unmarshal([]byte(l.pod.String()), &fields))
	for name := range fields {
		require.Contains(t, string(page), "| `"+name+"` | ")
	}
}
