// SPDX-License-Identifier: Apache-2.0

// Package analysistest has a fake analysis.Source over a workload that exists in memory, and the
// suite that the fake and the readers of real metrics stores both pass.
//
// It is for tests only and must not be imported by anything that ships.
package analysistest

import (
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

// Hashes of a Workload's revisions.
const (
	CanaryHash = "7d4b9c6f58"
	StableHash = "5f6c8d7b49"
)

// Pods of a Workload, none of which runs at first. The caller is a pod of another workload.
const (
	Stable1 = "stable-1"
	Stable2 = "stable-2"
	Canary1 = "canary-1"
	Canary2 = "canary-2"
	Caller  = "caller"
)

// Workload is a few pods with the counters that their proxies would have. The zero value is ready.
type Workload struct {
	mutex sync.Mutex
	pods  map[string]*pod
}

type pod struct {
	running, silent bool
	// began is when the process did.
	began time.Time
	// counts since the process began, and lost are requests to each revision without a response.
	counts analysis.Counts
	lost   map[string]uint64
	// ever counts since the pod began.
	ever     analysis.Counts
	everLost map[string]uint64
}

// PodHash is the pod-template-hash of a pod by its name, empty for the caller.
func PodHash(name string) string {
	switch name {
	case Canary1, Canary2:
		return CanaryHash
	case Stable1, Stable2:
		return StableHash
	}
	return ""
}

// Start runs pods.
func (w *Workload) Start(names ...string) {
	w.change(names, func(p *pod) { p.running = true })
}

// Stop removes pods.
func (w *Workload) Stop(names ...string) {
	w.change(names, func(p *pod) { p.running = false })
}

// Restart lets a pod's counters begin at zero again.
func (w *Workload) Restart(name string) {
	w.change([]string{name}, func(p *pod) { p.counts, p.lost, p.began = analysis.Counts{}, nil, time.Now() })
}

// Age lets the pods' processes have begun earlier.
func (w *Workload) Age(by time.Duration) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for _, p := range w.pods {
		p.began = p.began.Add(-by)
	}
}

// Silence makes pods unreachable for scrapes. They go on counting.
func (w *Workload) Silence(names ...string) {
	w.change(names, func(p *pod) { p.silent = true })
}

// Unsilence ends that.
func (w *Workload) Unsilence(names ...string) {
	w.change(names, func(p *pod) { p.silent = false })
}

// Serve lets a pod answer requests.
func (w *Workload) Serve(name string, counts analysis.Counts) {
	w.change([]string{name}, func(p *pod) {
		p.counts, p.ever = plus(p.counts, counts), plus(p.ever, counts)
	})
}

// Lose lets the caller count requests to a revision that got no response.
func (w *Workload) Lose(hash string, requests uint64) {
	w.change([]string{Caller}, func(p *pod) {
		if p.lost == nil {
			p.lost = map[string]uint64{}
		}
		if p.everLost == nil {
			p.everLost = map[string]uint64{}
		}
		p.lost[hash] += requests
		p.everLost[hash] += requests
	})
}

// Counters are what a pod's process has counted since it began.
type Counters struct {
	analysis.Counts
	// Lost are requests to each revision without a response, by hash.
	Lost  map[string]uint64
	Began time.Time
}

// Counters of a pod, unless nobody can ask it.
func (w *Workload) Counters(name string) (Counters, bool) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	p := w.pods[name]
	if p == nil || !p.running || p.silent {
		return Counters{}, false
	}
	return Counters{p.counts, maps.Clone(p.lost), p.began}, true
}

// WriteMetrics writes what a pod's proxy would expose, and says whether it can be scraped.
func (w *Workload) WriteMetrics(out io.Writer, name string) bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	p := w.pods[name]
	if p == nil || !p.running || p.silent {
		return false
	}
	line := func(metric, labels string, value uint64) {
		_, _ = fmt.Fprintf(out, "%s{%s} %d\n", metric, labels, value)
	}
	line("proxy_build_info", `version="test"`, 1)
	line("process_start_time_seconds", "", uint64(p.began.Unix()))
	if name == Caller {
		for hash, requests := range p.lost {
			line("response_total", fmt.Sprintf(
				`direction="outbound",classification="failure",error="connect",dst_namespace="%s",dst_pod_template_hash="%s"`, Namespace, hash), requests)
		}
		return true
	}
	line("response_total", `direction="inbound",classification="success",status_code="200",route_name="probe"`, 1_000_000+p.counts.Requests)
	line("response_total", `direction="inbound",classification="success",status_code="200"`, p.counts.Requests-p.counts.Errors)
	line("response_total", `direction="inbound",classification="failure",status_code="500"`, p.counts.Errors)
	// What this pod calls itself is none of its own answers.
	line("response_total", `direction="outbound",classification="failure",status_code="500"`, 1_000_000+p.counts.Requests)
	for _, edge := range []string{"100", "400"} {
		line("response_latency_ms_bucket", `direction="inbound",le="`+edge+`"`, p.counts.Requests-p.counts.Slow)
	}
	for _, edge := range []string{"500", "+Inf"} {
		line("response_latency_ms_bucket", `direction="inbound",le="`+edge+`"`, p.counts.Requests)
	}
	line("response_latency_ms_count", `direction="inbound"`, p.counts.Requests)
	line("response_latency_ms_sum", `direction="inbound"`, 100*p.counts.Requests)
	return true
}

func (w *Workload) change(names []string, apply func(*pod)) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.pods == nil {
		w.pods = map[string]*pod{}
	}
	for _, name := range names {
		if w.pods[name] == nil {
			w.pods[name] = &pod{began: time.Now()}
		}
		apply(w.pods[name])
	}
}

func plus(a, b analysis.Counts) analysis.Counts {
	return analysis.Counts{Requests: a.Requests + b.Requests, Errors: a.Errors + b.Errors, Slow: a.Slow + b.Slow}
}
