// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of /proc/<pid>/stat on every Linux of today.
const ticksPerSecond = 100

// sample is one turn of a contender.
type sample struct {
	contender   string
	connections int
	// rate is requests per second, p50 and p99 are milliseconds, processor is microseconds per request.
	rate, p50, p99, processor float64
}

// measure gives a contender its turn.
func (b *bed) measure(ctx context.Context, each contender, connections int, turn time.Duration) (sample, error) {
	before, err := processorTime(each.process)
	if err != nil {
		return sample{}, err
	}
	output, err := b.command(ctx, "wrk", "--latency", "-t1", fmt.Sprintf("-c%d", connections),
		fmt.Sprintf("-d%ds", int(turn.Seconds())), each.url).Output()
	if err != nil {
		return sample{}, fmt.Errorf("wrk: %w", err)
	}
	after, err := processorTime(each.process)
	if err != nil {
		return sample{}, err
	}
	measured, err := parseWrk(output)
	if err != nil {
		return sample{}, err
	}
	measured.contender, measured.connections = each.name, connections
	measured.processor = (after - before).Seconds() * 1e6 / (measured.rate * turn.Seconds())
	return measured, nil
}

var errWrk = errors.New("wrk has not said what was looked for")

// parseWrk reads wrk's report. Answers other than 2xx, and connections that broke, make it worthless.
func parseWrk(output []byte) (sample, error) {
	text := string(output)
	if strings.Contains(text, "Non-2xx") || strings.Contains(text, "Socket errors") {
		return sample{}, fmt.Errorf("%w: there were failed requests: %s", errWrk, text)
	}
	var measured sample
	var err error
	find := func(pattern string) string {
		found := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if found == nil {
			err = fmt.Errorf("%w: %s in %s", errWrk, pattern, text)
			return ""
		}
		return found[1]
	}
	rate := find(`Requests/sec:\s+([0-9.]+)`)
	if err != nil {
		return sample{}, err
	}
	if measured.rate, err = strconv.ParseFloat(rate, 64); err != nil {
		return sample{}, fmt.Errorf("%w: a rate in %q", errWrk, rate)
	}
	if !strings.Contains(text, "99%") {
		return measured, nil // Without --latency.
	}
	median, worst := find(`50%\s+([0-9.]+[a-z]+)`), find(`99%\s+([0-9.]+[a-z]+)`)
	if err != nil {
		return sample{}, err
	}
	p50, err50 := time.ParseDuration(median)
	p99, err99 := time.ParseDuration(worst)
	measured.p50, measured.p99 = p50.Seconds()*1e3, p99.Seconds()*1e3
	return measured, errors.Join(err50, err99)
}

// processorTime is what a process and its children have used.
func processorTime(process int) (time.Duration, error) {
	if process == 0 {
		return 0, nil
	}
	total, err := ownTime(process)
	if err != nil {
		return 0, err
	}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", process))
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			return 0, fmt.Errorf("read the children of %d: %w", process, err)
		}
		for _, child := range strings.Fields(string(children)) {
			number, err := strconv.Atoi(child)
			if err != nil {
				return 0, fmt.Errorf("read the children of %d: %w", process, err)
			}
			used, err := processorTime(number)
			if err != nil {
				return 0, err
			}
			total += used
		}
	}
	return total, nil
}

func ownTime(process int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process))
	if err != nil {
		return 0, fmt.Errorf("read the processor time of %d: %w", process, err)
	}
	// The second field is a name in parentheses that may hold anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	const user, system = 11, 12
	if len(fields) <= system {
		return 0, fmt.Errorf("read the processor time of %d: %d fields", process, len(fields))
	}
	userTicks, userErr := strconv.ParseInt(fields[user], 10, 64)
	systemTicks, systemErr := strconv.ParseInt(fields[system], 10, 64)
	return time.Duration(userTicks+systemTicks) * time.Second / ticksPerSecond, errors.Join(userErr, systemErr)
}
