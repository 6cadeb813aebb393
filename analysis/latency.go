// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math"
	"time"
)

// LatencyEdge is the bucket edge at which a latency limit is judged: the limit itself if it is an
// edge, else the next lower one, which is stricter. It is 0 for a limit below the lowest edge, which
// cannot be judged.
func LatencyEdge(limit time.Duration) time.Duration {
	edge := time.Duration(0)
	for _, next := range LatencyEdges() {
		if next <= limit {
			edge = next
		}
	}
	return edge
}

// LatencyEdges are those of response_latency_ms, the proxies' histogram, and are Linkerd's.
func LatencyEdges() []time.Duration {
	var edges []time.Duration
	for _, milliseconds := range []int64{
		1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500,
		1_000, 2_000, 3_000, 4_000, 5_000, 10_000, 20_000, 30_000, 40_000, 50_000,
	} {
		edges = append(edges, time.Duration(milliseconds)*time.Millisecond)
	}
	return edges
}

// EdgeShare is the share of stable's responses that took longer than an edge of the histogram.
type EdgeShare struct {
	Edge  time.Duration
	Share float64
}

// Edges picks the two edges, beside the objective's, at which latencies are compared: those over which
// some 10 % and some 2 % of stable's responses are, from 0.5 % to 35 %. They show a canary that is
// slower long before it breaks the objective. 0 where there is none.
func Edges(shares []EdgeShare, limit time.Duration) [2]time.Duration {
	var picked [2]time.Duration
	for i, aim := range [2]float64{0.10, 0.02} {
		nearest := math.Inf(1)
		for _, s := range shares {
			distance := math.Abs(math.Log(s.Share / aim))
			taken := s.Edge == LatencyEdge(limit) || s.Edge == picked[0]
			if s.Share >= 0.005 && s.Share <= 0.35 && !taken && distance < nearest {
				nearest, picked[i] = distance, s.Edge
			}
		}
	}
	return picked
}
