// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// exposition is Prometheus' text format, version 0.0.4.
type exposition struct {
	bytes.Buffer
}

// label is a name and a value; those with an empty value are left out, as Prometheus has it.
type label struct{ name, value string }

func (e *exposition) family(name, kind, help string) {
	_, _ = fmt.Fprintf(e, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// sample writes one value of a series, whose labels are text as labelText returns it.
func (e *exposition) sample(name, labels string, value float64) {
	e.WriteString(name)
	if labels != "" {
		e.WriteByte('{')
		e.WriteString(labels)
		e.WriteByte('}')
	}
	e.end(value)
}

// bucket writes one bucket of a histogram.
func (e *exposition) bucket(name, labels, bound string, count uint64) {
	e.WriteString(name)
	e.WriteString("_bucket{")
	e.WriteString(labels)
	e.WriteString(`,le="`)
	e.WriteString(bound)
	e.WriteString(`"}`)
	e.end(float64(count))
}

func (e *exposition) end(value float64) {
	e.WriteByte(' ')
	e.Write(strconv.AppendFloat(e.AvailableBuffer(), value, 'g', -1, 64))
	e.WriteByte('\n')
}

// labelText is a label set as the format has it between its braces. A proxy is scraped each second,
// and its series have many samples each: their labels are written once.
func labelText(labels ...label) string {
	var text strings.Builder
	for _, l := range labels {
		if l.value == "" {
			continue
		}
		if text.Len() > 0 {
			text.WriteByte(',')
		}
		text.WriteString(l.name)
		text.WriteString(`="`)
		text.WriteString(escape(l.value))
		text.WriteByte('"')
	}
	return text.String()
}

// escape is called for each label, of which hardly any needs it, and a Replacer is dear to make.
func escape(value string) string {
	if !strings.ContainsAny(value, "\\\n\"") {
		return value
	}
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(value)
}

func (l trafficLabels) text() string {
	return labelText(
		label{"direction", l.direction},
		label{"tls", l.tls},
		label{"target_port", l.targetPort},
		label{"route_name", l.routeName},
		label{"dst_namespace", l.dstNamespace},
		label{"dst_deployment", l.dstDeployment},
		label{"dst_pod_template_hash", l.dstHash},
		label{"dst_service", l.dstService},
	)
}

func (l tcpLabels) text() string {
	return join(l.trafficLabels.text(), labelText(label{"peer", l.peer}))
}

func (l unsplitLabels) text() string {
	return labelText(label{"target_port", l.targetPort}, label{"outcome", l.outcome})
}

func (l malformedLabels) text() string {
	return labelText(label{"reason", l.reason}, label{"outcome", l.outcome})
}

func (l handshakeLabels) text() string {
	return labelText(label{"direction", l.direction}, label{"outcome", l.outcome})
}

func (l overloadLabels) text() string {
	return labelText(label{"direction", directionInbound}, label{"service", l.service},
		label{"priority", string(l.priority)}, label{"outcome", l.outcome})
}

func (l retryLabels) text() string {
	return join(l.trafficLabels.text(), labelText(label{"outcome", l.outcome}))
}

// join is the text of two label sets in one.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "," + b
}

// exposition writes all metrics.
func (m *metrics) exposition() []byte {
	m.mutex.RLock()
	traffic, connections := maps.Clone(m.traffic), maps.Clone(m.connections)
	connectFailures, unsplit := maps.Clone(m.connectFailures), maps.Clone(m.unsplitRequests)
	malformed, authorizations, retries := maps.Clone(m.malformedHTTP), maps.Clone(m.authorizations), maps.Clone(m.retries)
	ejected := maps.Clone(m.ejections)
	overloads := maps.Clone(m.overloads)
	m.mutex.RUnlock()
	out := &exposition{}
	writeTraffic(out, traffic)
	writeConnections(out, connections)
	out.family("sluice_connect_failures_total", "counter",
		"Attempts that could not connect to an endpoint, whatever came of the request.")
	for _, of := range sorted(connectFailures, trafficLabels.text) {
		out.sample("sluice_connect_failures_total", of.labels, float64(of.series.Load()))
	}
	out.family("sluice_retries_total", "counter",
		"Answers after which a TrafficPolicy has requests sent again, by whether they were.")
	for _, of := range sorted(retries, retryLabels.text) {
		out.sample("sluice_retries_total", of.labels, float64(of.series.Load()))
	}
	if len(ejected) > 0 {
		writeEjections(out, ejected, m.leftOut())
	}
	writeOverloads(out, overloads)
	out.family("sluice_unsplit_requests_total", "counter",
		"Requests and connections that came from outside the mesh while the workload had a split.")
	for _, of := range sorted(unsplit, unsplitLabels.text) {
		out.sample("sluice_unsplit_requests_total", of.labels, float64(of.series.Load()))
	}
	out.family("sluice_mirrored_requests_total", "counter", "Requests copied to a canary, by what became of the copy.")
	for _, outcome := range slices.Sorted(maps.Keys(m.mirrored)) {
		out.sample("sluice_mirrored_requests_total", labelText(label{"outcome", outcome}), float64(m.mirrored[outcome].Load()))
	}
	out.family("sluice_http_malformed_total", "counter",
		"Messages that were no proper HTTP, by what was wrong and whether they were passed on all the same.")
	for _, of := range sorted(malformed, malformedLabels.text) {
		out.sample("sluice_http_malformed_total", of.labels, float64(of.series.Load()))
	}
	out.family("sluice_tls_handshakes_total", "counter", "Handshakes with other proxies, by what became of them.")
	for _, of := range sorted(m.handshakes, handshakeLabels.text) {
		out.sample("sluice_tls_handshakes_total", of.labels, float64(of.series.Load()))
	}
	writeAuthorizations(out, authorizations)
	out.family("sluice_tcp_idle_timeouts_total", "counter",
		"Connections carried as bytes that were closed because nothing moved on them.")
	out.sample("sluice_tcp_idle_timeouts_total", "", float64(m.idleConnections.Load()))
	out.family("sluice_tls_passthrough_total", "counter",
		"Connections of TLS carried as bytes, by the name that their ClientHello asks for.")
	for _, direction := range slices.Sorted(maps.Keys(m.passthrough)) {
		counts := m.passthrough[direction].copied()
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			out.sample("sluice_tls_passthrough_total", labelText(label{"direction", direction}, label{"server_name", name}), float64(counts[name]))
		}
	}
	m.writeRecords(out)
	m.writeProcess(out)
	return out.Bytes()
}

func writeOverloads(out *exposition, overloads map[overloadLabels]*atomic.Uint64) {
	out.family("sluice_overload_requests_total", "counter",
		"Requests to the pod for which a TrafficPolicy has an overload, by their priority and whether they were refused.")
	for _, of := range sorted(overloads, overloadLabels.text) {
		out.sample("sluice_overload_requests_total", of.labels, float64(of.series.Load()))
	}
}

// writeRecords tells what became of lines of taps and, where there are any, of the access log and of spans.
func (m *metrics) writeRecords(out *exposition) {
	out.family("sluice_tap_dropped_total", "counter", "Lines for which a listener of /tap had no room.")
	out.sample("sluice_tap_dropped_total", "", float64(m.taps.total()))
	if m.accessLog != nil {
		out.family("sluice_access_log_dropped_total", "counter",
			"Lines of the access log for which there was no room, or that could not be written.")
		out.sample("sluice_access_log_dropped_total", "", float64(m.accessLog.Dropped()))
	}
	if m.tracer != nil {
		out.family("sluice_trace_spans_total", "counter",
			"Spans, by whether the collector has taken them or there was no room or no collector.")
		out.sample("sluice_trace_spans_total", labelText(label{"outcome", "dropped"}), float64(m.tracer.Dropped()))
		out.sample("sluice_trace_spans_total", labelText(label{"outcome", "exported"}), float64(m.tracer.Exported()))
	}
}

func writeTraffic(out *exposition, traffic map[trafficLabels]*trafficSeries) {
	order := sorted(traffic, trafficLabels.text)
	out.family("request_total", "counter", "Requests.")
	for _, of := range order {
		out.sample("request_total", of.labels, float64(of.series.requests.Load()))
	}
	out.family("response_total", "counter", "Answers, and requests that got none.")
	for _, of := range order {
		responses, _ := of.series.copied()
		for _, response := range slices.SortedFunc(maps.Keys(responses), compareResponses) {
			out.sample("response_total", join(of.labels, response.text()), float64(responses[response]))
		}
	}
	out.family("response_latency_ms", "histogram", "Time to the first byte of the answer, in milliseconds.")
	for _, of := range order {
		_, latencies := of.series.copied()
		for _, status := range slices.Sorted(maps.Keys(latencies)) {
			labels := join(of.labels, labelText(label{"status_code", strconv.Itoa(status)}))
			writeHistogram(out, "response_latency_ms", labels, latencies[status])
		}
	}
}

func (l responseLabels) text() string {
	status := ""
	if l.status != 0 {
		status = strconv.Itoa(l.status)
	}
	return labelText(label{"status_code", status}, label{"classification", l.classification},
		label{"grpc_status", l.grpcStatus}, label{"error", l.failure})
}

func (s *trafficSeries) copied() (map[responseLabels]uint64, map[int]histogram) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	latencies := make(map[int]histogram, len(s.latencies))
	for status, latency := range s.latencies {
		latencies[status] = *latency
	}
	return maps.Clone(s.responses), latencies
}

func compareResponses(a, b responseLabels) int {
	return cmp.Or(cmp.Compare(a.status, b.status), cmp.Compare(a.classification, b.classification),
		cmp.Compare(a.grpcStatus, b.grpcStatus), cmp.Compare(a.failure, b.failure))
}

func writeHistogram(out *exposition, name, labels string, h histogram) {
	cumulative := uint64(0)
	for i, bound := range latencyBounds() {
		cumulative += h.counts[i]
		out.bucket(name, labels, strconv.FormatFloat(bound, 'g', -1, 64), cumulative)
	}
	cumulative += h.counts[bucketCount]
	out.bucket(name, labels, "+Inf", cumulative)
	out.sample(name+"_sum", labels, h.sum)
	out.sample(name+"_count", labels, float64(cumulative))
}

func writeConnections(out *exposition, connections map[tcpLabels]*tcpSeries) {
	order := sorted(connections, tcpLabels.text)
	for _, family := range []struct {
		name, kind, help string
		value            func(*tcpSeries) uint64
	}{
		{"tcp_open_total", "counter", "Connections opened.", func(s *tcpSeries) uint64 { return s.opened.Load() }},
		{"tcp_open_connections", "gauge", "Connections that are open.", func(s *tcpSeries) uint64 {
			closed := s.closed.Load() // Before opened, so that the difference is never negative.
			return s.opened.Load() - closed
		}},
		{"tcp_close_total", "counter", "Connections closed.", func(s *tcpSeries) uint64 { return s.closed.Load() }},
		{"tcp_read_bytes_total", "counter", "Bytes read from peers.", func(s *tcpSeries) uint64 { return s.bytesRead.Load() }},
		{"tcp_write_bytes_total", "counter", "Bytes written to peers.", func(s *tcpSeries) uint64 { return s.bytesWritten.Load() }},
	} {
		out.family(family.name, family.kind, family.help)
		for _, of := range order {
			out.sample(family.name, of.labels, float64(family.value(of.series)))
		}
	}
}

func (m *metrics) writeProcess(out *exposition) {
	out.family("identity_cert_expiration_timestamp_seconds", "gauge", "When the proxy's certificate ends.")
	expiration := float64(0)
	if certificate, err := m.options.Certificates.Certificate(); err == nil && certificate.Leaf != nil {
		expiration = float64(certificate.Leaf.NotAfter.Unix())
	}
	out.sample("identity_cert_expiration_timestamp_seconds", "", expiration)
	out.family("process_resident_memory_bytes", "gauge", "Resident memory.")
	out.sample("process_resident_memory_bytes", "", residentMemory())
	out.family("process_start_time_seconds", "gauge", "When the proxy started.")
	out.sample("process_start_time_seconds", "", float64(m.started.UnixMilli())/1000)
	out.family("proxy_build_info", "gauge", "What the proxy was built from.")
	out.sample("proxy_build_info", labelText(label{"version", m.options.Version}, label{"go_version", runtime.Version()}), 1)
}

// residentMemory reads /proc/self/statm, whose second field counts pages.
func residentMemory() float64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseFloat(fields[1], 64)
	if err != nil {
		return 0
	}
	return pages * float64(os.Getpagesize())
}

// exposed is a series with its labels.
type exposed[V any] struct {
	labels string
	series *V
}

// sorted returns series in an order that stays the same from one scrape to the next.
func sorted[K comparable, V any](all map[K]*V, text func(K) string) []exposed[V] {
	order := make([]exposed[V], 0, len(all))
	for key, series := range all {
		order = append(order, exposed[V]{text(key), series})
	}
	slices.SortFunc(order, func(a, b exposed[V]) int { return cmp.Compare(a.labels, b.labels) })
	return order
}
