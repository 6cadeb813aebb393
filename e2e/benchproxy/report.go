// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// quietLoad is the load average over which a machine is busy with something else.
const quietLoad = 1

// machine is where it was measured.
type machine struct {
	date, kernel, processor string
	processors              int
	load                    float64
	versions                map[string]string
}

func lookAtMachine(ctx context.Context) (machine, error) {
	average, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return machine{}, fmt.Errorf("read the load: %w", err)
	}
	first, _, _ := strings.Cut(string(average), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return machine{}, fmt.Errorf("read the load: %w", err)
	}
	seen := machine{
		date: time.Now().UTC().Format(time.DateOnly), processors: runtime.NumCPU(), load: load,
		versions: map[string]string{},
	}
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		seen.kernel = strings.TrimSpace(string(kernel))
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(text), "model name\t: ")
		seen.processor, _, _ = strings.Cut(rest, "\n")
	}
	for name, words := range map[string][]string{"nginx": {"nginx", "-v"}, "haproxy": {"haproxy", "-v"}} {
		output, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput()
		if err != nil {
			return machine{}, fmt.Errorf("ask %s for its version: %w", name, err)
		}
		seen.versions[name], _, _ = strings.Cut(string(output), "\n")
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

type report struct {
	machine machine
	results []result
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

func (m metric) judge(name string, values map[string][]float64) result {
	judged := result{Case: name, Metric: m.name, Unit: m.unit, Others: map[string]float64{}, Target: m.target, Met: true}
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
	text, err := json.MarshalIndent(r.results, "", "  ")
	if err != nil {
		return err
	}
	for path, content := range map[string][]byte{results: append(text, '\n'), table: []byte(r.table())} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make a directory for results: %w", err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
	}
	return nil
}

func (r report) table() string {
	var out strings.Builder
	out.WriteString("# One HTTP/1.1 hop\n\nWritten by `make bench-proxy`. One plaintext hop, closed loop, 1 KB of content; medians of interleaved turns.\n\n")
	fmt.Fprintf(&out, "%s; %d processors (%s), Linux %s; %s; %s.\n\n", r.machine.date, r.machine.processors,
		r.machine.processor, r.machine.kernel, r.machine.versions["nginx"], r.machine.versions["haproxy"])
	if r.machine.load > quietLoad {
		fmt.Fprintf(&out, "**The machine was busy with something else (load average %.1f): these numbers compare nothing.**\n\n", r.machine.load)
	}
	out.WriteString("| case | metric | sluice | nginx | haproxy | direct | target | met |\n|---|---|---:|---:|---:|---:|---|---|\n")
	for _, line := range r.results {
		met := "-"
		if line.Target != "" {
			met = map[bool]string{true: "yes", false: "no"}[line.Met]
		}
		fmt.Fprintf(&out, "| %s | %s, %s | %s | %s | %s | %s | %s | %s |\n", line.Case, line.Metric, line.Unit,
			number(line.Ours), number(line.Others["nginx"]), number(line.Others["haproxy"]), number(line.Others["direct"]), line.Target, met)
	}
	return out.String()
}

func number(value float64) string {
	if value >= 100 {
		return strconv.FormatFloat(value, 'f', 0, 64)
	}
	return strconv.FormatFloat(value, 'f', 2, 64)
}
