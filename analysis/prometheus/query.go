// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluice-mesh/sluice/analysis"
)

const (
	// lead before the run's start holds at least two scrapes at the usual intervals: series that are
	// older than the run are counted from their last sample before it.
	lead = time.Minute
	// longest stretch that is read at once. Of an older run only the last hour is judged.
	longest = time.Hour
	// overlap with what is known already: pods that began to answer in it may still be cold, and pods
	// that have been silent for some rounds are waited for.
	overlap       = analysis.WarmUp + usualInterval
	overlapRounds = silentScrapes + 1
)

// The proxies' metrics and labels. Scraping adds the namespace, the pod and its template's hash.
const (
	responses      = "response_total"
	latencyBuckets = "response_latency_ms_bucket"
	latencyCount   = "response_latency_ms_count"
	// presence is exported by every proxy, also by one that has answered nothing yet.
	presence = "proxy_build_info"
	// processStart is when a process began, in seconds of Unix time. Others than proxies export it too.
	processStart = "process_start_time_seconds"

	labelPod         = "pod"
	labelInstance    = "instance"
	labelHash        = "pod_template_hash"
	labelDestination = "dst_pod_template_hash"
	labelClass       = "classification"
	labelDirection   = "direction"
	labelError       = "error"
	labelEdge        = "le"
	labelNamespace   = "namespace"
	labelWorkload    = "deployment"

	labelDestinationNamespace = "dst_namespace"

	classFailure = "failure"
	classSuccess = "success"
	inbound      = "inbound"
	outbound     = "outbound"
	// canceled requests lost their client before an answer.
	canceled = "canceled"
)

// plan is a query with its bounds worked out.
type plan struct {
	analysis.Query
	// from is the run's start, or later for a run that is too long to be read whole.
	from      time.Time
	truncated bool
	// resumed: from lies in the run, and what happened before it is known.
	resumed bool
	// alone: only stable is looked at.
	alone bool
	// started is when the process of each pod began, as far as it is known.
	started map[string]time.Time
	// edge of the latency histogram at which responses begin to be slow; 0 if latency is not asked for.
	edge time.Duration
	// edges at which latencies are compared beside it; 0 where there is none.
	edges [2]time.Duration
}

func newPlan(query analysis.Query) (plan, error) {
	p := plan{Query: query, from: query.Since}
	switch {
	case query.Namespace == "" || query.CanaryHash == "" || query.StableHash == "":
		return p, errors.New("namespace and the hashes of both revisions are needed")
	case query.CanaryHash == query.StableHash:
		return p, fmt.Errorf("both revisions have the hash %q", query.CanaryHash)
	case !utf8.ValidString(query.Namespace + query.CanaryHash + query.StableHash):
		return p, errors.New("namespace and hashes must be valid UTF-8")
	case query.Since.IsZero() || query.Now.Before(query.Since):
		return p, fmt.Errorf("the run's start %v is not before now, %v", query.Since, query.Now)
	case query.Before < 0 || query.Before > longest:
		return p, fmt.Errorf("the time before the run's start %v is not from 0 to %v", query.Before, longest)
	case query.LatencyLimit < 0:
		return p, fmt.Errorf("the latency limit %v is negative", query.LatencyLimit)
	}
	if known := query.After.Add(-max(overlap, overlapRounds*query.RoundLength)); p.from.Before(known) {
		p.from, p.resumed = known, true
	}
	if earliest := query.Now.Add(-longest); p.from.Before(earliest) {
		p.from, p.truncated, p.Before = earliest, true, 0
	}
	if query.LatencyLimit > 0 {
		if p.edge = analysis.LatencyEdge(query.LatencyLimit); p.edge == 0 {
			return p, fmt.Errorf("the latency limit %v is below the lowest bucket edge of 1ms", query.LatencyLimit)
		}
	}
	return p, nil
}

// selectors are what to ask for some runs: one answer with all that the pods of their revisions
// counted, so that it is of one instant, and one with what anybody counted of requests to them that got
// no response. Probes, where they are marked as Linkerd does, and copies for a canary are no requests of
// users.
func selectors(plans []plan) []string {
	names := presence + "|" + processStart + "|" + responses
	var namespaces, hashes, edges []string
	var length time.Duration
	for _, p := range plans {
		namespaces = append(namespaces, regexp.QuoteMeta(p.Namespace))
		hashes = append(hashes, regexp.QuoteMeta(p.CanaryHash), regexp.QuoteMeta(p.StableHash))
		length = max(length, p.Now.Sub(p.from)+p.rehearsed()+lead)
		for _, edge := range [3]time.Duration{p.edge, p.edges[0], p.edges[1]} {
			if edge > 0 { // Prometheus 3 writes the edges of a histogram as floats.
				edges = append(edges, fmt.Sprintf(`%d(\.0+)?`, edge.Milliseconds()))
			}
		}
	}
	if len(edges) > 0 {
		names += "|" + latencyBuckets + "|" + latencyCount
	}
	// No edge at all is a series without buckets.
	all := func(texts []string) string {
		return strings.Join(slices.Compact(slices.Sorted(slices.Values(texts))), "|")
	}
	window := fmt.Sprintf("[%ds]", int64(length/time.Second)+1)
	return []string{
		fmt.Sprintf(`{__name__=~%s,%s=~%s,%s=~%s,%s=~%s,%s=~%s,route_name!~"probe|mirror"}%s`,
			quote(names), labelDirection, quote("|"+inbound), labelNamespace, quote(all(namespaces)), labelHash, quote(all(hashes)),
			labelEdge, quote("|"+all(edges)), window),
		fmt.Sprintf(`{__name__=%s,%s=%s,%s=%s,%s!="",status_code="",%s=~%s,%s=~%s}%s`,
			quote(responses), labelDirection, quote(outbound), labelClass, quote(classFailure), labelError,
			labelDestinationNamespace, quote(all(namespaces)), labelDestination, quote(all(hashes)), window),
	}
}

// rehearsed is how long before the run's start is read.
func (p plan) rehearsed() time.Duration {
	if p.resumed || !p.After.IsZero() {
		return 0
	}
	return p.Before
}

// histogram asks for stable's latencies in the minutes before the run, by edge.
func (p plan) histogram() string {
	return fmt.Sprintf(`sum by (le) (increase(%s{%s=%s,%s=%s,%s=%s,route_name!~"probe|mirror"}[%ds]))`,
		latencyBuckets, labelDirection, quote(inbound), labelNamespace, quote(p.Namespace), labelHash, quote(p.StableHash), int64(p.Before/time.Second))
}

// quote makes a PromQL string: whatever the text holds, it stays one value.
func quote(text string) string {
	return strconv.Quote(text)
}
