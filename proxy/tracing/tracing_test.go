// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/accesslog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanID  = "00f067aa0ba902b7"
)

func TestBegin(t *testing.T) {
	never, always := func() float64 { return 0.999 }, func() float64 { return 0 }
	for name, test := range map[string]struct {
		values        []string
		ratio         float64
		draw          func() float64
		traced, fresh bool
	}{
		"sampled":                {[]string{"00-" + traceID + "-" + spanID + "-01"}, 0, never, true, false},
		"other flags, too":       {[]string{"00-" + traceID + "-" + spanID + "-ff"}, 0, never, true, false},
		"not sampled":            {[]string{"00-" + traceID + "-" + spanID + "-00"}, 1, always, false, false},
		"only another flag":      {[]string{"00-" + traceID + "-" + spanID + "-02"}, 1, always, false, false},
		"a later version":        {[]string{"cc-" + traceID + "-" + spanID + "-01-what"}, 0, never, true, false},
		"none":                   {nil, 0, always, false, false},
		"none, drawn":            {nil, 0.5, always, true, true},
		"none, not drawn":        {nil, 0.5, never, false, false},
		"all":                    {nil, 1, never, true, true},
		"two":                    {[]string{"00-" + traceID + "-" + spanID + "-01", "00-" + traceID + "-" + spanID + "-01"}, 0, always, false, false},
		"version ff":             {[]string{"ff-" + traceID + "-" + spanID + "-01"}, 1, always, true, true},
		"capitals":               {[]string{"00-" + strings.ToUpper(traceID) + "-" + spanID + "-01"}, 0, always, false, false},
		"no trace":               {[]string{"00-" + strings.Repeat("0", 32) + "-" + spanID + "-01"}, 0, always, false, false},
		"no span":                {[]string{"00-" + traceID + "-" + strings.Repeat("0", 16) + "-01"}, 0, always, false, false},
		"more than this version": {[]string{"00-" + traceID + "-" + spanID + "-01-what"}, 0, always, false, false},
		"short":                  {[]string{"00-" + traceID}, 0, always, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			at, traced := Begin(test.values, test.ratio, test.draw)
			require.Equal(t, test.traced, traced)
			if !traced {
				return
			}
			require.Equal(t, test.fresh, at.Fresh)
			require.NotZero(t, at.Span)
			require.NotZero(t, at.Trace)
			require.Equal(t, "00-"+at.TraceID()+"-"+hex.EncodeToString(at.Span[:])+"-01", at.Traceparent())
			if !test.fresh {
				require.Equal(t, traceID, at.TraceID())
				require.Equal(t, spanID, hex.EncodeToString(at.Parent[:]))
			}
		})
	}
}

// FuzzBegin: what is taken for a parent is one, and what the next hop is told is taken for one there.
func FuzzBegin(f *testing.F) {
	f.Add("00-" + traceID + "-" + spanID + "-01")
	f.Add("cc-" + traceID + "-" + spanID + "-01-what")
	f.Add("00-" + traceID + "-" + spanID + "-0g")
	f.Fuzz(func(t *testing.T, value string) {
		at, traced := Begin([]string{value}, 0, func() float64 { return 0 })
		if !traced {
			return
		}
		if !strings.Contains(value, at.TraceID()) || !strings.Contains(value, hex.EncodeToString(at.Parent[:])) {
			t.Fatalf("%q does not hold %v", value, at)
		}
		next, traced := Begin([]string{at.Traceparent()}, 0, func() float64 { return 0 })
		if !traced || next.Trace != at.Trace || next.Parent != at.Span {
			t.Fatalf("%q goes on as %v", at.Traceparent(), next)
		}
	})
}

// collector takes batches, which OpenTelemetry's own messages decode.
type collector struct {
	*httptest.Server
	batches chan *tracepb.TracesData
	answer  func(w http.ResponseWriter)
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{batches: make(chan *tracepb.TracesData, 100), answer: func(http.ResponseWriter) {}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		batch := &tracepb.TracesData{}
		if err := errors.Join(err, proto.Unmarshal(body, batch)); err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" || r.URL.Path != "/v1/traces" {
			t.Errorf("%s of %s: %v", r.URL, r.Header.Get("Content-Type"), err)
		}
		c.batches <- batch
		c.answer(w)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) exporter(failed func(error)) *Exporter {
	return New(Options{
		Tracing: mesh.Tracing{Collector: c.URL + "/v1/traces"}, Version: "test", Failed: failed,
		Resource: func() []Attribute { return []Attribute{{"service.name", "shop"}} },
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		},
	})
}

func entry() *accesslog.Entry {
	return &accesslog.Entry{
		Received: time.Unix(1700000000, 5), Total: time.Second, Direction: "inbound", Client: netip.MustParseAddrPort("10.0.0.1:5"),
		ClientID: "spiffe://a/b", Method: "GET", Host: "shop", Path: "/a\xff", Query: "secret=1", Version: "HTTP/2.0", Status: 503, Error: "connect",
	}
}

func textsOf(list []*commonpb.KeyValue) map[string]string {
	texts := map[string]string{}
	for _, of := range list {
		if text, ok := of.GetValue().GetValue().(*commonpb.AnyValue_StringValue); ok {
			texts[of.GetKey()] = text.StringValue
		}
	}
	return texts
}

// TestSpansAreDecoded by somebody else.
func TestSpansAreDecoded(t *testing.T) {
	c := newCollector(t)
	x := c.exporter(func(err error) { t.Error(err) })
	stop := x.Start()
	at, _ := Begin([]string{"00-" + traceID + "-" + spanID + "-01"}, 0, nil)
	x.Add(&at, entry())
	stop()
	require.EqualValues(t, 1, x.Exported())
	require.Zero(t, x.Dropped())
	batch := <-c.batches
	require.Len(t, batch.GetResourceSpans(), 1)
	of := batch.GetResourceSpans()[0]
	require.Equal(t, map[string]string{"service.name": "shop"}, textsOf(of.GetResource().GetAttributes()))
	require.Equal(t, "sluice-proxy", of.GetScopeSpans()[0].GetScope().GetName())
	require.Equal(t, "test", of.GetScopeSpans()[0].GetScope().GetVersion())
	span := of.GetScopeSpans()[0].GetSpans()[0]
	require.Equal(t, traceID, hex.EncodeToString(span.GetTraceId()))
	require.Equal(t, at.Span[:], span.GetSpanId())
	require.Equal(t, spanID, hex.EncodeToString(span.GetParentSpanId()))
	require.Equal(t, "GET", span.GetName())
	require.Equal(t, tracepb.Span_SPAN_KIND_SERVER, span.GetKind())
	require.Equal(t, uint64(1700000000_000000005), span.GetStartTimeUnixNano())
	require.Equal(t, uint64(1700000001_000000005), span.GetEndTimeUnixNano())
	require.Equal(t, tracepb.Status_STATUS_CODE_ERROR, span.GetStatus().GetCode())
	require.Equal(t, uint32(1), span.GetFlags())
	require.Equal(t, map[string]string{
		"http.request.method": "GET", "url.path": "/a\uFFFD", "server.address": "shop", "network.protocol.version": "2",
		"client.address": "10.0.0.1", "sluice.client.id": "spiffe://a/b", "error.type": "connect",
	}, textsOf(span.GetAttributes()))
	last := span.GetAttributes()[len(span.GetAttributes())-1]
	require.Equal(t, "http.response.status_code", last.GetKey())
	require.Equal(t, int64(503), last.GetValue().GetIntValue())
}

// TestNobodyWaitsForACollector: what it does not take is dropped, and counted.
func TestNobodyWaitsForACollector(t *testing.T) {
	c := newCollector(t)
	hang := make(chan struct{})
	c.answer = func(http.ResponseWriter) { <-hang }
	failed := make(chan error, 10)
	x := c.exporter(func(err error) { failed <- err })
	stop := x.Start()
	at, _ := Begin(nil, 1, func() float64 { return 0 })
	x.Add(&at, entry())
	<-c.batches // It is on its way.
	const many = 5000
	for range many {
		x.Add(&at, entry())
	}
	require.NotZero(t, x.Dropped())
	require.LessOrEqual(t, len(x.pending), pendingMost)
	began := time.Now()
	stop()
	require.Less(t, time.Since(began), 30*time.Second)
	require.EqualValues(t, many+1, x.Dropped()+x.Exported())
	require.Error(t, <-failed)
	close(hang)
}

func TestWhatACollectorRefusesIsDropped(t *testing.T) {
	c := newCollector(t)
	c.answer = func(w http.ResponseWriter) {
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
	failed := make(chan error, 1)
	x := c.exporter(func(err error) { failed <- err })
	at, _ := Begin(nil, 1, func() float64 { return 0 })
	x.Add(&at, entry())
	x.Start()()
	require.ErrorContains(t, <-failed, "307")
	require.EqualValues(t, 1, x.Dropped())
	require.Zero(t, x.Exported())
}
