// SPDX-License-Identifier: Apache-2.0

package load

import (
	"maps"
	"sync"
	"time"
)

// Class is a way in which a request fails.
type Class string

// Classes of failure.
const (
	ClassConnect   Class = "connect"   // no connection could be made
	ClassReset     Class = "reset"     // the connection ended before any byte of an answer
	ClassTruncated Class = "truncated" // the connection ended inside an answer
	ClassTimeout   Class = "timeout"   // no complete answer in time
	ClassStatus    Class = "status"    // complete, with another status than 2xx
	ClassCorrupt   Class = "corrupt"   // complete, and not what was asked for
)

// NoVersion counts answers that name no version, and requests without an answer.
const NoVersion = "none"

// Bounds of what is kept; what does not fit is counted under NoVersion or not sampled.
const (
	maxVersions = 32
	maxPods     = 256
	maxSamples  = 50
)

// Counts is what a client has seen since it was started or reset.
type Counts struct {
	Since    time.Time          `json:"since"`
	Requests uint64             `json:"requests"` // finished, OK or failed
	OK       uint64             `json:"ok"`
	Failed   uint64             `json:"failed"`
	Calls    uint64             `json:"calls"` // of gRPC, streams too, that were OK
	InFlight int64              `json:"inFlight"`
	Failures map[Class]uint64   `json:"failures"`
	Versions map[string]Version `json:"versions"`
	Pods     map[string]uint64  `json:"pods"`
	// P50 and P99 are of all complete answers but streams and sessions, in milliseconds.
	P50 float64 `json:"p50ms"`
	P99 float64 `json:"p99ms"`
	// WorstLag is the longest time by which the client itself sent a request too late: when it
	// is large, the machine was too busy to trust the latencies.
	WorstLag float64 `json:"worstLagMs"`
	// Samples are the first failures, for a person to read.
	Samples []Sample `json:"samples,omitempty"`
}

// Version is what one version of the application answered.
type Version struct {
	Requests uint64           `json:"requests"`
	OK       uint64           `json:"ok"`
	Failures map[Class]uint64 `json:"failures,omitempty"`
	Latency  Histogram        `json:"latency"`
}

// Sample is one failure.
type Sample struct {
	Time   time.Time `json:"time"`
	Class  Class     `json:"class"`
	Method string    `json:"method"`
	Fresh  bool      `json:"fresh"`
	Detail string    `json:"detail"`
}

// Failed is the number of failures of a version.
func (v Version) Failed() uint64 { return v.Requests - v.OK }

// result is one finished request.
type result struct {
	method  string
	fresh   bool
	kind    kind
	version string // as the answer says, "" when it says nothing
	pod     string
	class   Class // "" when OK
	detail  string
	took    time.Duration
	lag     time.Duration
}

// recorder collects results.
type recorder struct {
	mu       sync.Mutex
	counts   Counts
	worstLag time.Duration
	inFlight int64
}

func newRecorder(now time.Time) *recorder {
	r := &recorder{}
	r.reset(now)
	return r
}

func (r *recorder) reset(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.worstLag = 0
	r.counts = Counts{
		Since:    now,
		Failures: map[Class]uint64{},
		Versions: map[string]Version{},
		Pods:     map[string]uint64{},
	}
}

func (r *recorder) begin() {
	r.mu.Lock()
	r.inFlight++
	r.mu.Unlock()
}

// finish counts a result. What began before the last reset belongs to what was forgotten.
func (r *recorder) finish(res result, began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight--
	c := &r.counts
	if began.Before(c.Since) {
		return
	}
	c.Requests++
	r.worstLag = max(r.worstLag, res.lag)

	name := res.version
	if _, known := c.Versions[name]; name == "" || (!known && len(c.Versions) >= maxVersions) {
		name = NoVersion
	}
	version := c.Versions[name]
	version.Requests++
	if _, known := c.Pods[res.pod]; res.pod != "" && (known || len(c.Pods) < maxPods) {
		c.Pods[res.pod]++
	}
	if !res.kind.long() && (res.class == "" || res.class == ClassStatus || res.class == ClassCorrupt) {
		version.Latency.Observe(res.took)
	}
	if res.class == "" {
		c.OK++
		version.OK++
	} else {
		c.failed(&version, res, began)
	}
	if res.class == "" && res.kind.isGRPC() {
		c.Calls++
	}
	c.Versions[name] = version
}

func (c *Counts) failed(version *Version, res result, began time.Time) {
	c.Failed++
	c.Failures[res.class]++
	if version.Failures == nil {
		version.Failures = map[Class]uint64{}
	}
	version.Failures[res.class]++
	if len(c.Samples) < maxSamples {
		c.Samples = append(c.Samples, Sample{Time: began, Class: res.class, Method: res.method, Fresh: res.fresh, Detail: res.detail})
	}
}

func (r *recorder) snapshot() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.counts
	out.InFlight = r.inFlight
	out.WorstLag = milliseconds(r.worstLag)
	out.Failures = maps.Clone(r.counts.Failures)
	out.Pods = maps.Clone(r.counts.Pods)
	out.Samples = append([]Sample(nil), r.counts.Samples...)
	out.Versions = make(map[string]Version, len(r.counts.Versions))
	var all Histogram
	for name, version := range r.counts.Versions {
		version.Failures = maps.Clone(version.Failures)
		version.Latency = version.Latency.Add(Histogram{})
		out.Versions[name] = version
		all = all.Add(version.Latency)
	}
	out.P50 = milliseconds(all.Quantile(0.50))
	out.P99 = milliseconds(all.Quantile(0.99))
	return out
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
