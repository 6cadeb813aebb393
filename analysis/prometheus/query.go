// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
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
)

// The proxies' metrics and labels. Scraping adds the namespace, the pod and its template's hash.
const (
	responses      = "response_total"
	latencyBuckets = "response_latency_ms_bucket"
	latencyCount   = "response_latency_ms_count"
	// presence is exported by every proxy, also by one that has answered nothing yet.
	presence = "proxy_build_info"

	labelPod         = "pod"
	labelInstance    = "instance"
	labelHash        = "pod_template_hash"
	labelDestination = "dst_pod_template_hash"
	labelClass       = "classification"
	labelDirection   = "direction"
	labelError       = "error"

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
	// edge of the latency histogram at which responses begin to be slow; 0 if latency is not asked for.
	edge time.Duration
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
	case query.LatencyLimit < 0:
		return p, fmt.Errorf("the latency limit %v is negative", query.LatencyLimit)
	}
	if earliest := query.Now.Add(-longest); p.from.Before(earliest) {
		p.from, p.truncated = earliest, true
	}
	if query.LatencyLimit > 0 {
		if p.edge = analysis.LatencyEdge(query.LatencyLimit); p.edge == 0 {
			return p, fmt.Errorf("the latency limit %v is below the lowest bucket edge of 1ms", query.LatencyLimit)
		}
	}
	return p, nil
}

// selectors are what to ask for: one answer with all that the pods of both revisions counted, so that
// it is of one instant, and one with what anybody counted of requests to them that got no response.
// Probes, where they are marked as Linkerd does, and copies for a canary are no requests of users.
func (p plan) selectors() []string {
	names := presence + "|" + responses
	if p.edge > 0 {
		names += "|" + latencyBuckets + "|" + latencyCount
	}
	window := fmt.Sprintf("[%ds]", int64((p.Now.Sub(p.from)+lead)/time.Second)+1)
	hashes := quote(regexp.QuoteMeta(p.CanaryHash) + "|" + regexp.QuoteMeta(p.StableHash))
	// Prometheus 3 writes the edges of a histogram as floats. No edge at all is a series without buckets.
	edges := quote(fmt.Sprintf(`|%d(\.0+)?`, p.edge.Milliseconds()))
	return []string{
		fmt.Sprintf(`{__name__=~%s,%s=~%s,namespace=%s,%s=~%s,le=~%s,route_name!~"probe|mirror"}%s`,
			quote(names), labelDirection, quote("|"+inbound), quote(p.Namespace), labelHash, hashes, edges, window),
		fmt.Sprintf(`{__name__=%s,%s=%s,%s=%s,%s!="",status_code="",dst_namespace=%s,%s=~%s}%s`,
			quote(responses), labelDirection, quote(outbound), labelClass, quote(classFailure), labelError,
			quote(p.Namespace), labelDestination, hashes, window),
	}
}

// quote makes a PromQL string: whatever the text holds, it stays one value.
func quote(text string) string {
	return strconv.Quote(text)
}
