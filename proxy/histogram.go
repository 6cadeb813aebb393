// SPDX-License-Identifier: Apache-2.0

package proxy

import "time"

// bucketCount is the number of Linkerd's latency buckets.
const bucketCount = 25

// latencyBounds are Linkerd's latency buckets in milliseconds; dashboards and gates know their edges.
func latencyBounds() [bucketCount]float64 {
	return [bucketCount]float64{
		1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500,
		1000, 2000, 3000, 4000, 5000, 10000, 20000, 30000, 40000, 50000,
	}
}

// histogram counts latencies. It is not for concurrent use.
type histogram struct {
	// counts are not cumulative; the last is what is over all bounds.
	counts [bucketCount + 1]uint64
	sum    float64
}

func (h *histogram) observe(latency time.Duration) {
	milliseconds := float64(latency) / float64(time.Millisecond)
	h.sum += milliseconds
	for i, bound := range latencyBounds() {
		if milliseconds <= bound {
			h.counts[i]++
			return
		}
	}
	h.counts[bucketCount]++
}
