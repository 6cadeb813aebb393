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

func (e *exposition) sample(name string, labels []label, value float64) {
	e.WriteString(name)
	separator := byte('{')
	for _, l := range labels {
		if l.value == "" {
			continue
		}
		e.WriteByte(separator)
		separator = ','
		e.WriteString(l.name)
		e.WriteString(`="`)
		e.WriteString(escape(l.value))
		e.WriteByte('"')
	}
	if separator == ',' {
		e.WriteByte('}')
	}
	e.WriteByte(' ')
	e.WriteString(strconv.FormatFloat(value, 'g', -1, 64))
	e.WriteByte('\n')
}

func escape(value string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(value)
}

func (l trafficLabels) list() []label {
	return []label{
		{"direction", l.direction},
		{"tls", l.tls},
		{"target_port", l.targetPort},
		{"route_name", l.routeName},
		{"dst_namespace", l.dstNamespace},
		{"dst_deployment", l.dstDeployment},
		{"dst_pod_template_hash", l.dstHash},
		{"dst_service", l.dstService},
	}
}

func (l tcpLabels) list() []label {
	return append(l.trafficLabels.list(), label{"peer", l.peer})
}

func (l unsplitLabels) list() []label {
	return []label{{"target_port", l.targetPort}, {"outcome", l.outcome}}
}

// exposition writes all metrics.
func (m *metrics) exposition() []byte {
	m.mutex.RLock()
	traffic, connections := maps.Clone(m.traffic), maps.Clone(m.connections)
	connectFailures, unsplit := maps.Clone(m.connectFailures), maps.Clone(m.unsplitRequests)
	m.mutex.RUnlock()
	out := &exposition{}
	writeTraffic(out, traffic)
	writeConnections(out, connections)
	out.family("sluice_connect_failures_total", "counter",
		"Attempts that could not connect to an endpoint, whatever came of the request.")
	for _, labels := range sorted(connectFailures, trafficLabels.list) {
		out.sample("sluice_connect_failures_total", labels.list(), float64(connectFailures[labels].Load()))
	}
	out.family("sluice_unsplit_requests_total", "counter",
		"Requests and connections that came from outside the mesh while the workload had a split.")
	for _, labels := range sorted(unsplit, unsplitLabels.list) {
		out.sample("sluice_unsplit_requests_total", labels.list(), float64(unsplit[labels].Load()))
	}
	out.family("sluice_mirrored_requests_total", "counter", "Requests copied to a canary, by what became of the copy.")
	for _, outcome := range slices.Sorted(maps.Keys(m.mirrored)) {
		out.sample("sluice_mirrored_requests_total", []label{{"outcome", outcome}}, float64(m.mirrored[outcome].Load()))
	}
	m.writeProcess(out)
	return out.Bytes()
}

func writeTraffic(out *exposition, traffic map[trafficLabels]*trafficSeries) {
	order := sorted(traffic, trafficLabels.list)
	out.family("request_total", "counter", "Requests.")
	for _, labels := range order {
		out.sample("request_total", labels.list(), float64(traffic[labels].requests.Load()))
	}
	out.family("response_total", "counter", "Answers, and requests that got none.")
	for _, labels := range order {
		responses, _ := traffic[labels].copied()
		for _, response := range slices.SortedFunc(maps.Keys(responses), compareResponses) {
			status := ""
			if response.status != 0 {
				status = strconv.Itoa(response.status)
			}
			list := append(labels.list(), label{"status_code", status},
				label{"classification", response.classification}, label{"error", response.failure})
			out.sample("response_total", list, float64(responses[response]))
		}
	}
	out.family("response_latency_ms", "histogram", "Time to the first byte of the answer, in milliseconds.")
	for _, labels := range order {
		_, latencies := traffic[labels].copied()
		for _, status := range slices.Sorted(maps.Keys(latencies)) {
			writeHistogram(out, "response_latency_ms", append(labels.list(), label{"status_code", strconv.Itoa(status)}), latencies[status])
		}
	}
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
	return cmp.Or(cmp.Compare(a.status, b.status), cmp.Compare(a.classification, b.classification), cmp.Compare(a.failure, b.failure))
}

func writeHistogram(out *exposition, name string, labels []label, h histogram) {
	cumulative := uint64(0)
	for i, bound := range latencyBounds() {
		cumulative += h.counts[i]
		out.sample(name+"_bucket", append(slices.Clone(labels), label{"le", strconv.FormatFloat(bound, 'g', -1, 64)}), float64(cumulative))
	}
	cumulative += h.counts[bucketCount]
	out.sample(name+"_bucket", append(slices.Clone(labels), label{"le", "+Inf"}), float64(cumulative))
	out.sample(name+"_sum", labels, h.sum)
	out.sample(name+"_count", labels, float64(cumulative))
}

func writeConnections(out *exposition, connections map[tcpLabels]*tcpSeries) {
	order := sorted(connections, tcpLabels.list)
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
		for _, labels := range order {
			out.sample(family.name, labels.list(), float64(family.value(connections[labels])))
		}
	}
}

func (m *metrics) writeProcess(out *exposition) {
	out.family("identity_cert_expiration_timestamp_seconds", "gauge", "When the proxy's certificate ends.")
	expiration := float64(0)
	if certificate, err := m.options.Certificates.Certificate(); err == nil && certificate.Leaf != nil {
		expiration = float64(certificate.Leaf.NotAfter.Unix())
	}
	out.sample("identity_cert_expiration_timestamp_seconds", nil, expiration)
	out.family("process_resident_memory_bytes", "gauge", "Resident memory.")
	out.sample("process_resident_memory_bytes", nil, residentMemory())
	out.family("process_start_time_seconds", "gauge", "When the proxy started.")
	out.sample("process_start_time_seconds", nil, float64(m.started.UnixMilli())/1000)
	out.family("proxy_build_info", "gauge", "What the proxy was built from.")
	out.sample("proxy_build_info", []label{{"version", m.options.Version}, {"go_version", runtime.Version()}}, 1)
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

// sorted returns label sets in an order that stays the same from one scrape to the next.
func sorted[K comparable, V any](all map[K]*V, list func(K) []label) []K {
	keys := slices.Collect(maps.Keys(all))
	slices.SortFunc(keys, func(a, b K) int {
		return slices.CompareFunc(list(a), list(b), func(x, y label) int { return cmp.Compare(x.value, y.value) })
	})
	return keys
}
