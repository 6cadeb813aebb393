// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/proxytest"
)

// collected are spans by their IDs.
type collected struct {
	mutex sync.Mutex
	spans map[string]*tracepb.Span
}

func (c *collected) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	batch := &tracepb.TracesData{}
	if proto.Unmarshal(body, batch) != nil {
		return
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for _, of := range batch.GetResourceSpans() {
		for _, spans := range of.GetScopeSpans() {
			for _, span := range spans.GetSpans() {
				c.spans[hex.EncodeToString(span.GetSpanId())] = span
			}
		}
	}
}

func (c *collected) get(id string) *tracepb.Span {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.spans[id]
}

// TestTracesGoOn: each proxy is a span between that of the caller and that of the application, and what is not
// sampled goes through as it came.
func TestTracesGoOn(t *testing.T) {
	const parent, other = "00f067aa0ba902b7", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	spans := &collected{spans: map[string]*tracepb.Span{}}
	collector := httptest.NewServer(spans)
	t.Cleanup(collector.Close)
	tracing := mesh.Tracing{Collector: collector.URL + "/v1/traces"}
	m := proxytest.New(t)
	caller := m.Start(proxytest.PodSpec{Name: "caller", Workload: "shop/caller", Hash: "c1", Tracing: tracing})
	pod := m.Start(proxytest.PodSpec{Name: "shop", Workload: "shop/shop", Hash: "s1", Tracing: tracing})
	pod.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Parent", strings.Join(r.Header.Values("Traceparent"), ","))
		w.Header().Set("X-State", strings.Join(r.Header.Values("Tracestate"), ","))
	}))
	m.Discovery.SetDestination(mesh.Destination{
		Address: shopVIP, Service: mesh.Service{Namespace: "shop", Name: "shop", Port: 80}, Endpoints: []mesh.Endpoint{pod.Endpoint()},
	})
	ask := func(client *http.Client, traceparent string) http.Header {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/a?b=c", nil)
		require.NoError(t, err)
		if traceparent != "" {
			request.Header.Set("Traceparent", traceparent)
			request.Header.Set("Tracestate", "vendor=1")
		}
		response, err := client.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.Header
	}
	for name, client := range map[string]*http.Client{"HTTP/1.1": caller.Client(), "HTTP/2": caller.HTTP2Client()} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, other, ask(client, other).Get("X-Parent"), "not sampled")
			require.Equal(t, "odd", ask(client, "odd").Get("X-Parent"), "nor begun anew")
			require.Empty(t, ask(client, "").Get("X-Parent"))
			header := ask(client, "00-4bf92f3577b34da6a3ce929d0e0e4736-"+parent+"-01")
			require.Equal(t, "vendor=1", header.Get("X-State"))
			told := strings.Split(header.Get("X-Parent"), "-")
			require.Len(t, told, 4)
			require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", told[1])
			var inbound, outbound *tracepb.Span
			require.Eventually(t, func() bool {
				if inbound = spans.get(told[2]); inbound == nil {
					return false
				}
				outbound = spans.get(hex.EncodeToString(inbound.GetParentSpanId()))
				return outbound != nil
			}, time.Minute, 10*time.Millisecond)
			require.Equal(t, parent, hex.EncodeToString(outbound.GetParentSpanId()))
			require.Equal(t, tracepb.Span_SPAN_KIND_SERVER, inbound.GetKind())
			require.Equal(t, tracepb.Span_SPAN_KIND_CLIENT, outbound.GetKind())
			for _, attribute := range inbound.GetAttributes() {
				require.NotContains(t, attribute.GetValue().GetStringValue(), "b=c", "no query")
			}
		})
	}
	for _, one := range []*proxytest.Pod{caller, pod} {
		require.Eventually(t, func() bool { return one.Metric("sluice_trace_spans_total", `outcome="exported"`) == 2 }, time.Minute, 10*time.Millisecond)
		require.Zero(t, one.Metric("sluice_trace_spans_total", `outcome="dropped"`))
	}
}

// TestTracesBegin: without a parent, or with one that is none, a trace is begun by the ratio, without the state of
// another.
func TestTracesBegin(t *testing.T) {
	collector := httptest.NewServer(&collected{spans: map[string]*tracepb.Span{}})
	t.Cleanup(collector.Close)
	m := proxytest.New(t)
	pod := m.Start(proxytest.PodSpec{Name: "shop", Workload: "shop/shop", Hash: "s1", Tracing: mesh.Tracing{Collector: collector.URL + "/v1/traces", Ratio: 1}})
	pod.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Parent", strings.Join(r.Header.Values("Traceparent"), ","))
		w.Header().Set("X-State", r.Header.Get("Tracestate"))
	}))
	for _, client := range []*http.Client{pod.OutsideClient(), pod.OutsideHTTP2Client()} {
		for _, values := range [][]string{nil, {"odd"}, {"a", "b"}} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/", nil)
			require.NoError(t, err)
			request.Header["Traceparent"] = values
			request.Header.Set("Tracestate", "vendor=1")
			response, err := client.Do(request)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Regexp(t, "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$", response.Header.Get("X-Parent"))
			require.Empty(t, response.Header.Get("X-State"))
		}
	}
}
