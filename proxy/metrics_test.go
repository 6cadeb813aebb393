// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
)

func testMetrics() *metrics {
	options := Options{Version: `a "quoted" \ version`}
	options.setDefaults()
	return newMetrics(options)
}

// testSnapshot has one workload behind one destination.
func testSnapshot() *mesh.Snapshot {
	return &mesh.Snapshot{
		Inbound: mesh.Inbound{Protocols: map[uint16]mesh.Protocol{8080: mesh.ProtocolDetect, 5432: mesh.ProtocolTCP}},
		Destinations: map[string]*mesh.Destination{"a:1": {
			Service:   mesh.Service{Namespace: "n", Name: "a"},
			Endpoints: []mesh.Endpoint{{Address: "x:1", Namespace: "n", Workload: "n/a", PodTemplateHash: "k", Identity: "spiffe://a/b"}},
		}},
	}
}

func TestExpositionIsValid(t *testing.T) {
	m := testMetrics()
	m.expect(testSnapshot())
	inbound := inboundLabels(8080, "client")
	m.request(inbound)
	m.response(inbound, 200, 7*time.Millisecond, "")
	m.response(inbound, 503, 70*time.Second, "")
	m.failure(inbound, errorReset)
	m.connectFailure(inbound)
	m.unsplit(8080, unsplitShared)
	series := m.tcp(tcpLabels{inbound, peerSource})
	series.open()
	series.read(10)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(m.exposition()))
	require.NoError(t, err)
	for _, name := range []string{
		"request_total", "response_total", "response_latency_ms", "tcp_open_total", "tcp_open_connections", "tcp_close_total",
		"tcp_read_bytes_total", "tcp_write_bytes_total", "identity_cert_expiration_timestamp_seconds",
		"process_resident_memory_bytes", "proxy_build_info", "sluice_unsplit_requests_total", "sluice_connect_failures_total",
		"sluice_tls_handshakes_total",
	} {
		require.Contains(t, families, name)
	}
	zeros := map[string]bool{}
	for _, metric := range families["response_total"].GetMetric() {
		labels := map[string]string{}
		for _, pair := range metric.GetLabel() {
			labels[pair.GetName()] = pair.GetValue()
		}
		if metric.GetCounter().GetValue() == 0 {
			zeros[labels["direction"]+" "+labels["dst_pod_template_hash"]+" "+labels["classification"]+" "+labels["error"]] = true
		}
	}
	for _, want := range []string{"inbound  success ", "inbound  failure ", "outbound k success ", "outbound k failure ", "outbound k failure connect"} {
		require.True(t, zeros[want], "no zero for %q among %v", want, zeros)
	}
	for _, metric := range families["response_latency_ms"].GetMetric() {
		histogram := metric.GetHistogram()
		require.Len(t, histogram.GetBucket(), bucketCount+1)
		last := uint64(0)
		for _, bucket := range histogram.GetBucket() {
			require.GreaterOrEqual(t, bucket.GetCumulativeCount(), last)
			last = bucket.GetCumulativeCount()
		}
		require.Equal(t, histogram.GetSampleCount(), last)
	}
}

func TestLabelSetsAreBounded(t *testing.T) {
	m := testMetrics()
	for i := range seriesMost + 50 {
		m.request(trafficLabels{direction: directionOutbound, dstHash: fmt.Sprint(i)})
	}
	require.Len(t, m.traffic, seriesMost+1)
	require.EqualValues(t, 50, m.of(trafficLabels{direction: directionOutbound}.other()).requests.Load())
}

func TestHistogramBuckets(t *testing.T) {
	for latency, want := range map[time.Duration]int{
		0:                       0,
		time.Millisecond:        0,
		1001 * time.Microsecond: 1,
		500 * time.Millisecond:  14,
		50 * time.Second:        24,
		51 * time.Second:        25,
	} {
		h := &histogram{}
		h.observe(latency)
		require.EqualValues(t, 1, h.counts[want], "%s", latency)
	}
}

// BenchmarkExposition is what a scrape costs, of which each proxy has one a second.
func BenchmarkExposition(b *testing.B) {
	m := testMetrics()
	m.expect(testSnapshot())
	m.response(inboundLabels(8080, "client"), 200, 7*time.Millisecond, "")
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(m.exposition())))
	}
}
