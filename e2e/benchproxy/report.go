// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-mesh/sluice/e2e/benchreport"
)

// machine is where it was measured, and with which versions of the others.
type machine struct {
	benchreport.Machine
	versions map[string]string
}

func lookAtMachine(ctx context.Context) (machine, error) {
	where, err := benchreport.LookAtMachine()
	if err != nil {
		return machine{}, err
	}
	seen := machine{Machine: where, versions: map[string]string{}}
	for name, words := range map[string][]string{"nginx": {"nginx", "-v"}, "haproxy": {"haproxy", "-v"}} {
		output, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput()
		if err != nil {
			return machine{}, fmt.Errorf("ask %s for its version: %w", name, err)
		}
		seen.versions[name], _, _ = strings.Cut(string(output), "\n")
	}
	return seen, nil
}

type report struct {
	machine machine
	results []benchreport.Result
}

// metric is one way to look at samples.
type metric struct {
	name, unit string
	of         func(sample) float64
	// target is what is asked of ours; more says that more is better. Without a target nothing is.
	target string
	more   bool
}

func metrics() []metric {
	return []metric{
		{name: "requests", unit: "1/s", of: func(s sample) float64 { return s.rate }, target: ">= nginx and haproxy", more: true},
		{name: "p99", unit: "ms", of: func(s sample) float64 { return s.p99 }, target: "<= nginx and haproxy"},
		{name: "p50", unit: "ms", of: func(s sample) float64 { return s.p50 }},
		{name: "processor", unit: "us/request", of: func(s sample) float64 { return s.processor }},
	}
}

// summarize takes the median of each contender's turns.
func summarize(samples []sample, where machine) report {
	made := report{machine: where}
	connections := []int{}
	for _, s := range samples {
		if !slices.Contains(connections, s.connections) {
			connections = append(connections, s.connections)
		}
	}
	for _, count := range connections {
		for _, m := range metrics() {
			values := map[string][]float64{}
			for _, s := range samples {
				if s.connections == count {
					values[s.contender] = append(values[s.contender], m.of(s))
				}
			}
			made.results = append(made.results, m.judge(fmt.Sprintf("http/1.1 1 KB, %d connections", count), values))
		}
	}
	return made
}

func (m metric) judge(name string, values map[string][]float64) benchreport.Result {
	judged := benchreport.Result{Case: name, Metric: m.name, Unit: m.unit, Others: map[string]float64{}, Target: m.target, Met: true}
	for contender, list := range values {
		if contender == "sluice" {
			judged.Ours = median(list)
		} else {
			judged.Others[contender] = median(list)
		}
	}
	for _, peer := range []string{"nginx", "haproxy"} {
		theirs := judged.Others[peer]
		if m.target != "" && (m.more && judged.Ours < theirs || !m.more && judged.Ours > theirs) {
			judged.Met = false
		}
	}
	return judged
}

func median(values []float64) float64 {
	ordered := slices.Sorted(slices.Values(values))
	middle := len(ordered) / 2
	if len(ordered)%2 == 1 {
		return ordered[middle]
	}
	return (ordered[middle-1] + ordered[middle]) / 2
}

func (r report) write(results, table string) error {
	return benchreport.Write(r.results, results, r.table(), table)
}

func (r report) table() string {
	var out strings.Builder
	out.WriteString("# One HTTP/1.1 hop\n\nWritten by `make bench-proxy`. One plaintext hop, closed loop, 1 KB of content; medians of interleaved turns.\n\n")
	fmt.Fprintf(&out, "%s; %s; %s.\n\n", r.machine.Machine, r.machine.versions["nginx"], r.machine.versions["haproxy"])
	if r.machine.Busy() {
		fmt.Fprintf(&out, "**The machine was busy with something else (load average %.1f): these numbers compare nothing.**\n\n", r.machine.Load)
	}
	out.WriteString("| case | metric | sluice | nginx | haproxy | direct | target | met |\n|---|---|---:|---:|---:|---:|---|---|\n")
	for _, line := range r.results {
		fmt.Fprintf(&out, "| %s | %s, %s | %s | %s | %s | %s | %s | %s |\n", line.Case, line.Metric, line.Unit,
			number(line.Ours), number(line.Others["nginx"]), number(line.Others["haproxy"]), number(line.Others["direct"]), line.Target, line.Verdict())
	}
	return out.String()
}

func number(value float64) string {
	if value >= 100 {
		return strconv.FormatFloat(value, 'f', 0, 64)
	}
	return strconv.FormatFloat(value, 'f', 2, 64)
}
