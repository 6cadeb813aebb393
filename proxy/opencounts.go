// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"slices"
	"sync"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

// openCounts is what is open on each revision: requests and connections that this proxy sent there
// and those that its own application serves. The control plane lets the pods of a revision go when
// nobody reports anything open on it.
type openCounts struct {
	mutex  sync.Mutex
	counts map[revision]openCount
	// unsplit is how many requests and connections came to this pod without a split having been
	// applied, since its workload has had one.
	unsplit uint64
	// changed has one element when the counts have changed since it was last received.
	changed chan struct{}
}

type openCount struct{ requests, connections int }

func newOpenCounts() *openCounts {
	return &openCounts{counts: map[revision]openCount{}, changed: make(chan struct{}, 1)}
}

// add counts what was opened on a revision, done what was open on it.
func (o *openCounts) add(of revision, opened openCount) { o.change(of, opened) }

func (o *openCounts) done(of revision, open openCount) {
	o.change(of, openCount{-open.requests, -open.connections})
}

func (o *openCounts) change(of revision, by openCount) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	count := o.counts[of]
	count.requests += by.requests
	count.connections += by.connections
	if count == (openCount{}) {
		delete(o.counts, of)
	} else {
		o.counts[of] = count
	}
	o.wake()
}

func (o *openCounts) wake() {
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// cameUnsplit counts a request or connection to which no split had been applied.
func (o *openCounts) cameUnsplit() {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.unsplit++
	o.wake()
}

// applied begins the count of unsplit requests anew with each split.
func (o *openCounts) applied(snapshot *mesh.Snapshot) {
	if snapshot.Inbound.Split != nil {
		return
	}
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.unsplit = 0
}

// report is what a version of the snapshot has brought.
func (o *openCounts) report(version uint64, snapshot *mesh.Snapshot) *meshpb.Report {
	open := o.open(snapshot)
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return &meshpb.Report{Version: version, Open: open, Unsplit: o.unsplit}
}

// open lists what is open on workloads that have a split; what is not listed is zero.
func (o *openCounts) open(snapshot *mesh.Snapshot) []*meshpb.OpenCount {
	split := splitWorkloads(snapshot)
	o.mutex.Lock()
	defer o.mutex.Unlock()
	var open []*meshpb.OpenCount
	for of, count := range o.counts {
		if split[of.workload] {
			open = append(open, &meshpb.OpenCount{
				Workload:        of.workload,
				PodTemplateHash: of.hash,
				Requests:        uint64(max(count.requests, 0)),
				Connections:     uint64(max(count.connections, 0)),
			})
		}
	}
	slices.SortFunc(open, func(a, b *meshpb.OpenCount) int {
		return cmp.Or(cmp.Compare(a.GetWorkload(), b.GetWorkload()), cmp.Compare(a.GetPodTemplateHash(), b.GetPodTemplateHash()))
	})
	return open
}

func splitWorkloads(snapshot *mesh.Snapshot) map[string]bool {
	split := map[string]bool{}
	for _, destination := range snapshot.Destinations {
		for _, s := range destination.Splits {
			split[s.Workload] = true
		}
	}
	if snapshot.Inbound.Split != nil {
		split[snapshot.Inbound.Split.Workload] = true
	}
	return split
}
