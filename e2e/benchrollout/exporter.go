// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"net/http"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// requestsPerSecond of each workload in a run.
	requestsPerSecond = 100
	// badShare of a bad canary's responses are failures.
	badShare = 0.5
	// podsPerRevision share a revision's requests.
	podsPerRevision = 2
)

// flow is where a workload's requests go.
type flow struct {
	stable, canary string
	// share is the canary's, 0 to 1.
	share float64
}

// exporter plays what the proxies of all workloads in a run have counted, by the clock.
type exporter struct {
	lock      sync.Mutex
	last      time.Time
	workloads map[client.ObjectKey]*counted
}

type counted struct {
	flow
	bad       bool
	revisions map[string]*responses
}

type responses struct{ good, bad float64 }

func newExporter(now time.Time) *exporter {
	return &exporter{last: now, workloads: map[client.ObjectKey]*counted{}}
}

// let sends a workload's requests somewhere else from now on.
func (e *exporter) let(key client.ObjectKey, flow flow) {
	e.lock.Lock()
	defer e.lock.Unlock()
	e.count(time.Now())
	one := e.known(key)
	one.flow = flow
	for _, hash := range []string{flow.stable, flow.canary} {
		if hash != "" && one.revisions[hash] == nil {
			one.revisions[hash] = &responses{}
		}
	}
}

func (e *exporter) known(key client.ObjectKey) *counted {
	one := e.workloads[key]
	if one == nil {
		one = &counted{revisions: map[string]*responses{}}
		e.workloads[key] = one
	}
	return one
}

// stop forgets a workload.
func (e *exporter) stop(key client.ObjectKey) {
	e.lock.Lock()
	defer e.lock.Unlock()
	delete(e.workloads, key)
}

// spoil makes a workload's canary bad, the next if it has none, and returns since when.
func (e *exporter) spoil(key client.ObjectKey) time.Time {
	e.lock.Lock()
	defer e.lock.Unlock()
	now := time.Now()
	e.count(now)
	e.known(key).bad = true
	return now
}

// count adds what was answered since the last time.
func (e *exporter) count(now time.Time) {
	requests := now.Sub(e.last).Seconds() * requestsPerSecond
	e.last = now
	for _, one := range e.workloads {
		if stable := one.revisions[one.stable]; stable != nil {
			stable.good += requests * (1 - one.share)
		}
		if canary := one.revisions[one.canary]; canary != nil && one.share > 0 {
			failed := 0.0
			if one.bad {
				failed = badShare
			}
			canary.good += requests * one.share * (1 - failed)
			canary.bad += requests * one.share * failed
		}
	}
}

// ServeHTTP is one scrape.
func (e *exporter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	e.lock.Lock()
	defer e.lock.Unlock()
	e.count(time.Now())
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	out := bufio.NewWriter(w)
	defer func() { _ = out.Flush() }()
	// All series of a metric stand together, as the format asks.
	e.each(func(labels string, _ responses) { _, _ = fmt.Fprintf(out, "proxy_build_info{%s} 1\n", labels) })
	e.each(func(labels string, r responses) {
		_, _ = fmt.Fprintf(out, "response_total{%s,direction=\"inbound\",classification=\"success\",status_code=\"200\"} %d\n", labels, uint64(r.good))
		_, _ = fmt.Fprintf(out, "response_total{%s,direction=\"inbound\",classification=\"failure\",status_code=\"500\"} %d\n", labels, uint64(r.bad))
	})
	e.each(func(labels string, r responses) {
		_, _ = fmt.Fprintf(out, "response_latency_ms_bucket{%s,direction=\"inbound\",le=\"500\"} %d\n", labels, uint64(r.good)+uint64(r.bad))
	})
	e.each(func(labels string, r responses) {
		_, _ = fmt.Fprintf(out, "response_latency_ms_count{%s,direction=\"inbound\"} %d\n", labels, uint64(r.good)+uint64(r.bad))
	})
}

// each visits the pods of all workloads with their share of what was counted.
func (e *exporter) each(visit func(labels string, r responses)) {
	for key, one := range e.workloads {
		for hash, r := range one.revisions {
			for pod := range podsPerRevision {
				visit(fmt.Sprintf(`namespace="%s",deployment="%s",pod="%s-%s-%d",pod_template_hash="%s"`, key.Namespace, key.Name, key.Name, hash, pod, hash),
					responses{r.good / podsPerRevision, r.bad / podsPerRevision})
			}
		}
	}
}
