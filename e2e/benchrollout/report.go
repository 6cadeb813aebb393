// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-mesh/sluice/e2e/benchreport"
)

// atMost gives a result a target.
func atMost(target float64, r benchreport.Result) benchreport.Result {
	r.Target, r.Met = "<= "+number(target), r.Ours <= target
	return r
}

type report struct {
	machine benchreport.Machine
	plan    plan
	results []benchreport.Result
}

func (r report) write() error {
	for i := range r.results {
		r.results[i].Others = map[string]float64{}
		r.results[i].Met = r.results[i].Met || r.results[i].Target == ""
	}
	return benchreport.Write(r.results, r.plan.results, r.markdown(), r.plan.table)
}

func (r report) markdown() string {
	var out strings.Builder
	fmt.Fprintf(&out, `# The controller with thousands of Canaries

Written by `+"`make bench-rollout`"+` or, with few runs, by `+"`make bench-rollout-few`"+`. The shipped controller (looks every %s) on a real API server, etcd and Prometheus (scrapes every %s). Played: the pods, which are ready at once and do not exist; the Deployment controller's reports; the mesh, two proxies that acknowledge at once; the proxies' metrics, %d requests/s for each running workload, half of them for the canary. All of it ran on the same processors. Each load was measured for %s. Quantiles of reconciliations and of the queue are the upper edges of the histograms' buckets.

%s.

`, r.plan.interval, r.plan.scrape, requestsPerSecond, r.plan.measure, r.machine)
	if r.machine.Busy() {
		fmt.Fprintf(&out, "**The machine was busy with something else (load average %.1f): times say little.**\n\n", r.machine.Load)
	}
	out.WriteString("| case | metric | sluice | target | met |\n|---|---|---:|---|---|\n")
	for _, line := range r.results {
		fmt.Fprintf(&out, "| %s | %s, %s | %s | %s | %s |\n", line.Case, line.Metric, line.Unit, number(line.Ours), line.Target, line.Verdict())
	}
	return out.String()
}

func number(value float64) string {
	if value >= 100 || value == float64(int64(value)) {
		return strconv.FormatFloat(value, 'f', 0, 64)
	}
	return strconv.FormatFloat(value, 'f', 2, 64)
}
