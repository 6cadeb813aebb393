// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// busyLoad is the load average from which on a machine is busy with something else.
const busyLoad = 1

// machine is where it was measured.
type machine struct {
	date, kernel, processor string
	processors              int
	load                    float64
}

func lookAtMachine() (machine, error) {
	average, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return machine{}, fmt.Errorf("read the load: %w", err)
	}
	first, _, _ := strings.Cut(string(average), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return machine{}, fmt.Errorf("read the load: %w", err)
	}
	seen := machine{date: time.Now().UTC().Format(time.DateOnly), processors: runtime.NumCPU(), load: load}
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		seen.kernel = strings.TrimSpace(string(kernel))
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(text), "model name\t: ")
		seen.processor, _, _ = strings.Cut(rest, "\n")
	}
	return seen, nil
}

// result is one line of the machine-readable report, in the form that all benchmarks share.
type result struct {
	Case   string             `json:"case"`
	Metric string             `json:"metric"`
	Unit   string             `json:"unit"`
	Ours   float64            `json:"ours"`
	Others map[string]float64 `json:"others"`
	Target string             `json:"target"`
	Met    bool               `json:"met"`
}

// atMost gives a result a target.
func atMost(target float64, r result) result {
	r.Target, r.Met = "<= "+number(target), r.Ours <= target
	return r
}

type report struct {
	machine machine
	plan    plan
	results []result
}

func (r report) write() error {
	for i := range r.results {
		r.results[i].Others = map[string]float64{}
		r.results[i].Met = r.results[i].Met || r.results[i].Target == ""
	}
	text, err := json.MarshalIndent(r.results, "", "  ")
	if err != nil {
		return err
	}
	for path, content := range map[string][]byte{r.plan.results: append(text, '\n'), r.plan.table: []byte(r.markdown())} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make a directory for results: %w", err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
	}
	return nil
}

func (r report) markdown() string {
	var out strings.Builder
	fmt.Fprintf(&out, `# The controller with thousands of Canaries

Written by `+"`make bench-rollout`"+`. The shipped controller (looks every %s) on a real API server, etcd and Prometheus (scrapes every %s). Played: the pods, which are ready at once and do not exist; the Deployment controller's reports; the mesh, two proxies that acknowledge at once; the proxies' metrics, %d requests/s for each running workload, half of them for the canary. All of it ran on the same processors. Each load was measured for %s. Quantiles of reconciliations and of the queue are the upper edges of the histograms' buckets.

%s; %d processors (%s), Linux %s.

`, r.plan.interval, r.plan.scrape, requestsPerSecond, r.plan.measure, r.machine.date, r.machine.processors, r.machine.processor, r.machine.kernel)
	if r.machine.load > busyLoad {
		fmt.Fprintf(&out, "**The machine was busy with something else (load average %.1f): times say little.**\n\n", r.machine.load)
	}
	out.WriteString("| case | metric | sluice | target | met |\n|---|---|---:|---|---|\n")
	for _, line := range r.results {
		met := "-"
		if line.Target != "" {
			met = map[bool]string{true: "yes", false: "no"}[line.Met]
		}
		fmt.Fprintf(&out, "| %s | %s, %s | %s | %s | %s |\n", line.Case, line.Metric, line.Unit, number(line.Ours), line.Target, met)
	}
	return out.String()
}

func number(value float64) string {
	if value >= 100 || value == float64(int64(value)) {
		return strconv.FormatFloat(value, 'f', 0, 64)
	}
	return strconv.FormatFloat(value, 'f', 2, 64)
}
