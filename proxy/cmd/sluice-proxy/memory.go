// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

const (
	// memoryFile says what the container may use, or "max", in version 2 of the kernel's control groups.
	memoryFile = "/sys/fs/cgroup/memory.max"
	// heapPercent of that is what the runtime keeps to: the collector works harder before the kernel
	// ends the process, and with it what it carries. The rest is for what the runtime does not count.
	heapPercent = 90
)

// limitMemory keeps the runtime within the container's limit, unless GOMEMLIMIT says what to keep to.
func limitMemory(getenv func(string) string, file string) {
	if getenv("GOMEMLIMIT") != "" {
		return
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return // Without the file nothing limits it.
	}
	if limit, ok := heapLimit(string(text)); ok {
		debug.SetMemoryLimit(limit)
	}
}

// heapLimit reads the limit in bytes; ok is false when there is none.
func heapLimit(text string) (limit int64, ok bool) {
	most, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || most <= 0 {
		return 0, false
	}
	return most / 100 * heapPercent, true
}
