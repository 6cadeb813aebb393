// SPDX-License-Identifier: Apache-2.0

// Package benchreport is what all benchmarks say in the same words: on which machine, and result by
// result in a file for programs, beside a table for people. It must not know what was measured.
package benchreport

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

// quietLoad is the load average over which a machine is busy with something else.
const quietLoad = 1

// Machine is where it was measured.
type Machine struct {
	Date, Kernel, Processor string
	Processors              int
	Load                    float64
}

// LookAtMachine is to be called before anything is measured.
func LookAtMachine() (Machine, error) {
	average, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return Machine{}, fmt.Errorf("read the load: %w", err)
	}
	first, _, _ := strings.Cut(string(average), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return Machine{}, fmt.Errorf("read the load: %w", err)
	}
	seen := Machine{Date: time.Now().UTC().Format(time.DateOnly), Processors: runtime.NumCPU(), Load: load}
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		seen.Kernel = strings.TrimSpace(string(kernel))
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(text), "model name\t: ")
		seen.Processor, _, _ = strings.Cut(rest, "\n")
	}
	return seen, nil
}

// Busy says that the machine did something else.
func (m Machine) Busy() bool { return m.Load > quietLoad }

// String is for the table's head.
func (m Machine) String() string {
	return fmt.Sprintf("%s; %d processors (%s), Linux %s", m.Date, m.Processors, m.Processor, m.Kernel)
}

// Result is one line of the report for programs.
type Result struct {
	Case   string             `json:"case"`
	Metric string             `json:"metric"`
	Unit   string             `json:"unit"`
	Ours   float64            `json:"ours"`
	Others map[string]float64 `json:"others"`
	Target string             `json:"target"`
	Met    bool               `json:"met"`
}

// Verdict is the table's last column.
func (r Result) Verdict() string {
	switch {
	case r.Target == "":
		return "-"
	case r.Met:
		return "yes"
	}
	return "no"
}

// Write puts the results and their table into files.
func Write(results []Result, path, table, tablePath string) error {
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return fmt.Errorf("write results as JSON: %w", err)
	}
	for path, content := range map[string][]byte{path: append(text, '\n'), tablePath: []byte(table)} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make a directory for results: %w", err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
	}
	return nil
}
