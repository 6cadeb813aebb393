// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/e2e/benchreport"
)

func TestParseWrk(t *testing.T) {
	const report = "Running 5s test @ http://127.0.0.1:9001/\n  Latency Distribution\n     50%  716.00us\n     75%    1.02ms\n" +
		"     90%    1.31ms\n     99%    2.50ms\n  221734 requests in 5.00s, 279.6MB read\nRequests/sec:  44346.80\nTransfer/sec:     55.92MB\n"
	got, err := parseWrk([]byte(report))
	require.NoError(t, err)
	require.InDelta(t, 44346.80, got.rate, 0)
	require.InDelta(t, 0.716, got.p50, 1e-9)
	require.InDelta(t, 2.5, got.p99, 1e-9)
	for _, bad := range []string{"", report + "  Non-2xx or 3xx responses: 12\n", report + "  Socket errors: connect 0, read 1, write 0, timeout 0\n"} {
		_, err := parseWrk([]byte(bad))
		require.ErrorIs(t, err, errWrk)
	}
}

func TestSummarize(t *testing.T) {
	samples := []sample{
		{contender: "sluice", connections: 32, rate: 3, p99: 9, processor: 5}, {contender: "sluice", connections: 32, rate: 1, p99: 7, processor: 1},
		{contender: "sluice", connections: 32, rate: 2, p99: 8, processor: 3},
		{contender: "nginx", connections: 32, rate: 2, p99: 7}, {contender: "haproxy", connections: 32, rate: 1, p99: 9},
	}
	made := summarize(samples, machine{Machine: benchreport.Machine{Date: "2026-11-22", Load: 5}, versions: map[string]string{}})
	require.Len(t, made.results, 4)
	requests, p99 := made.results[0], made.results[1]
	require.InDelta(t, 2, requests.Ours, 0, "the median")
	require.True(t, requests.Met)
	require.InDelta(t, 8, p99.Ours, 0)
	require.False(t, p99.Met)
	require.Contains(t, made.table(), "busy")
	made.machine.Load = 0.2
	require.NotContains(t, made.table(), "busy")
}

func TestProcessorTimeCountsThisProcess(t *testing.T) {
	before, err := processorTime(os.Getpid())
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		now, err := processorTime(os.Getpid())
		return err == nil && now > before
	}, time.Minute, time.Microsecond)
}
