// SPDX-License-Identifier: Apache-2.0

// Package live makes rounds of what proxies report twice a second, for a gate that decides in seconds
// and needs no Prometheus.
//
// It must not know a cluster, a network or a clock: whoever receives the reports says whose they are
// and when they came, and has checked both. What a reporter says of itself is believed, what it says of
// others only as far as they bear it out.
package live

import (
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

// BucketCount is the number of buckets of the proxies' latency histogram: one for each of
// analysis.LatencyEdges and one for what took longer.
const BucketCount = 26

// Tally is what one proxy had counted since its session began. A session lasts as long as the proxy has
// something to report, and ends with its process.
type Tally struct {
	// Reporter is the proxy's pod, "namespace/name". Workload, "namespace/name", and Hash are those of
	// the pod. All three are what the control plane knows of who reports, never what the report says.
	Reporter, Workload, Hash string
	// Session tells the proxy's sessions apart: the counts of each began at 0. It is not 0.
	Session uint64
	// Age of the session when the tally was made.
	Age time.Duration
	// Sequence rises with each tally of a session, from 1.
	Sequence uint64
	// At is when the tally was received.
	At time.Time
	// Served is what came to the pod itself, without probes and copies.
	Served Served
	// Called is what the proxy sent to other workloads' revisions, each once, without copies.
	Called []Called
}

// Served are the requests that a pod answered.
type Served struct {
	Succeeded, Failed uint64
	// Latencies of the answers by bucket, not cumulative.
	Latencies [BucketCount]uint64
}

// Called are the requests that one proxy sent to one revision of a workload.
type Called struct {
	// Workload, "namespace/name", and Hash of the revision that was drawn.
	Workload, Hash string
	// Answered requests came back with any answer, Lost ones with none.
	Answered, Lost uint64
}

// grown is what a counter grew by in one session. One that fell was never true: it says nothing.
func grown(before, after uint64) uint64 {
	if after < before {
		return 0
	}
	return min(after-before, largestGrowth)
}

// largestGrowth of a counter from one tally to the next: what is more is no number of requests, and
// sums of it would overflow.
const largestGrowth = 1 << 32

func (s Served) since(before Served) Served {
	growth := Served{Succeeded: grown(before.Succeeded, s.Succeeded), Failed: grown(before.Failed, s.Failed)}
	for i := range s.Latencies {
		growth.Latencies[i] = grown(before.Latencies[i], s.Latencies[i])
	}
	return growth
}

func (s Served) plus(more Served) Served {
	s.Succeeded += more.Succeeded
	s.Failed += more.Failed
	for i := range s.Latencies {
		s.Latencies[i] += more.Latencies[i]
	}
	return s
}

func (s Served) requests() uint64 { return s.Succeeded + s.Failed }

// over is how many answers took longer than an edge of the histogram; 0 for no edge.
func (s Served) over(edge time.Duration) (slow uint64) {
	if edge <= 0 {
		return 0
	}
	edges := analysis.LatencyEdges()
	for i, count := range s.Latencies {
		if i >= len(edges) || edges[i] > edge {
			slow += count
		}
	}
	return min(slow, s.requests())
}

// judged are the counts at the edges that a gate asks for.
func (s Served) judged(limit time.Duration, edges [2]time.Duration) analysis.Counts {
	return analysis.Counts{
		Requests: s.requests(), Errors: s.Failed, Slow: s.over(limit), Over: [2]uint64{s.over(edges[0]), s.over(edges[1])},
	}
}
