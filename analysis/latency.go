// SPDX-License-Identifier: Apache-2.0

package analysis

import "time"

// LatencyEdge is the bucket edge at which a latency limit is judged: the limit itself if it is an
// edge, else the next lower one, which is stricter. It is 0 for a limit below the lowest edge, which
// cannot be judged.
//
// The edges are those of response_latency_ms, the proxies' histogram, and are Linkerd's.
func LatencyEdge(limit time.Duration) time.Duration {
	edge := time.Duration(0)
	for _, milliseconds := range []int64{
		1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500,
		1_000, 2_000, 3_000, 4_000, 5_000, 10_000, 20_000, 30_000, 40_000, 50_000,
	} {
		if next := time.Duration(milliseconds) * time.Millisecond; next <= limit {
			edge = next
		}
	}
	return edge
}
