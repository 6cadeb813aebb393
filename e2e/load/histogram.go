// SPDX-License-Identifier: Apache-2.0

package load

import (
	"math"
	"time"
)

// Bucket i of a Histogram holds durations up to firstEdge * growth^i, so a quantile is at most 5 %
// above the true one.
const (
	firstEdge = 50 * time.Microsecond
	growth    = 1.05
)

// Histogram counts durations in geometric buckets. The zero value is empty and ready for use.
type Histogram struct {
	Buckets []uint64 `json:"buckets,omitempty"`
}

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	if d > firstEdge {
		i = int(math.Ceil(math.Log(float64(d)/float64(firstEdge)) / math.Log(growth)))
	}
	for len(h.Buckets) <= i {
		h.Buckets = append(h.Buckets, 0)
	}
	h.Buckets[i]++
}

// Count is the number of durations seen.
func (h Histogram) Count() uint64 {
	var n uint64
	for _, c := range h.Buckets {
		n += c
	}
	return n
}

// Quantile is the upper edge of the bucket in which the q-quantile lies; 0 when nothing was seen.
func (h Histogram) Quantile(q float64) time.Duration {
	total := h.Count()
	if total == 0 {
		return 0
	}
	rank := uint64(math.Ceil(q * float64(total)))
	var seen uint64
	for i, c := range h.Buckets {
		seen += c
		if seen >= rank && c > 0 {
			return time.Duration(float64(firstEdge) * math.Pow(growth, float64(i)))
		}
	}
	return 0
}

// Sub is what was counted since earlier, an older state of the same histogram.
func (h Histogram) Sub(earlier Histogram) Histogram {
	out := Histogram{Buckets: append([]uint64(nil), h.Buckets...)}
	for i, c := range earlier.Buckets {
		if i < len(out.Buckets) {
			out.Buckets[i] -= min(c, out.Buckets[i])
		}
	}
	return out
}

// Add is both histograms together.
func (h Histogram) Add(other Histogram) Histogram {
	out := Histogram{Buckets: append([]uint64(nil), h.Buckets...)}
	for i, c := range other.Buckets {
		if i == len(out.Buckets) {
			out.Buckets = append(out.Buckets, other.Buckets[i:]...)
			break
		}
		out.Buckets[i] += c
	}
	return out
}
