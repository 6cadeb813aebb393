// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

// Issued are all kinds of queries that a Source asks about a run or a recording.
func Issued(query analysis.Query) ([]string, error) {
	p, err := newPlan(query)
	if err != nil {
		return nil, err
	}
	p.edges = [2]time.Duration{100 * time.Millisecond, 200 * time.Millisecond}
	issued := append(selectors([]plan{p, p}), p.histogram(), p.census())
	selector := analysis.Selector{Metric: "orders_total", Labels: map[string]string{"status": query.Namespace}}
	counters, err := selected(selector, p.Namespace, p.CanaryHash, p.StableHash)
	if err != nil {
		return nil, err
	}
	issued = append(issued, counters+p.window())
	number := analysis.NumberQuery{Namespace: p.Namespace, Workload: p.Workload, Hashes: []string{p.CanaryHash, p.StableHash}, Selector: selector}
	for _, number.Aggregate = range aggregations() {
		text, err := numbered(number)
		if err != nil {
			return nil, err
		}
		issued = append(issued, text)
	}
	for _, number.Expression = range []string{
		`max(lag{group="$workload", pod_template_hash=~"$canary|$stable"} offset 1m) > bool 3`,
		`scalar({"über $namespace", namespace="$namespace"})`,
	} {
		text, err := numbered(number)
		if err != nil {
			return nil, err
		}
		issued = append(issued, text)
	}
	return issued, nil
}

// PaceOf is how long a Feed waits between two reads.
var PaceOf = paceOf
