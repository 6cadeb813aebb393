// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

// stream is one connected proxy: what it has subscribed to, what it has been told in which version,
// and what it has reported. Its fields are guarded by the registry's lock, but for the channels.
type stream struct {
	// pod is "namespace/name" of the proxy's own pod.
	pod string
	// wake has one element when there may be something to tell.
	wake chan struct{}
	// superseded is closed when the same pod has connected again.
	superseded chan struct{}

	subscriptions map[string]*told
	inbound       *mesh.Inbound
	inboundTold   told
	toldInbound   *mesh.Inbound
	// version of the newest response, 0 before the first; reported is the newest in force there.
	version, reported uint64
	open              map[revision]openCount
}

// told is what a stream has been told of one destination, or of its inbound.
type told struct {
	destination *mesh.Destination
	splits      []toldSplit
}

// toldSplit says since which version of its stream a split is in what was told.
type toldSplit struct {
	split   mesh.Split
	version uint64
}

// revision of a workload.
type revision struct{ workload, hash string }

type openCount struct{ requests, connections int64 }

func newStream(pod string) *stream {
	return &stream{
		pod:           pod,
		wake:          make(chan struct{}, 1),
		superseded:    make(chan struct{}),
		subscriptions: map[string]*told{},
	}
}

func (s *stream) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default: // It will look anyway.
	}
}

// tell records that the splits are in a response of the given version. A split that had been told
// before keeps the version that first carried it: acknowledging that one is enough.
func (t *told) tell(splits []mesh.Split, version uint64) {
	fresh := make([]toldSplit, 0, len(splits))
	for _, split := range splits {
		entry := toldSplit{split: split, version: version}
		if before, ok := t.of(split.Workload); ok && before.split.Equal(split) {
			entry.version = before.version
		}
		fresh = append(fresh, entry)
	}
	t.splits = fresh
}

// toldWorkloads are those of whose splits the stream has been told.
func (s *stream) toldWorkloads() map[string]bool {
	workloads := map[string]bool{}
	for _, entry := range s.inboundTold.splits {
		workloads[entry.split.Workload] = true
	}
	for _, told := range s.subscriptions {
		for _, entry := range told.splits {
			workloads[entry.split.Workload] = true
		}
	}
	return workloads
}

func (t *told) of(workload string) (toldSplit, bool) {
	for _, entry := range t.splits {
		if entry.split.Workload == workload {
			return entry, true
		}
	}
	return toldSplit{}, false
}

// runs says whether a proxy that reported a version certainly runs a split in what it was told
// here. Splits are compared whole: one that was deleted and made anew begins its generations anew.
func (t *told) runs(split mesh.Split, reported uint64) bool {
	entry, ok := t.of(split.Workload)
	return ok && entry.split.Equal(split) && entry.version <= reported
}

// inboundSplits returns an inbound's split as a list.
func inboundSplits(inbound *mesh.Inbound) []mesh.Split {
	if inbound == nil || inbound.Split == nil {
		return nil
	}
	return []mesh.Split{*inbound.Split}
}

func hasSplit(splits []mesh.Split, workload string) bool {
	for at := range splits {
		if splits[at].Workload == workload {
			return true
		}
	}
	return false
}

func readOpen(list []*meshpb.OpenCount) map[revision]openCount {
	if len(list) == 0 {
		return nil
	}
	open := make(map[revision]openCount, len(list))
	for _, count := range list {
		key := revision{count.GetWorkload(), count.GetPodTemplateHash()}
		sum := open[key]
		sum.requests += toCount(count.GetRequests())
		sum.connections += toCount(count.GetConnections())
		open[key] = sum
	}
	return open
}

// toCount keeps a broken or hostile report from overflowing a sum.
func toCount(count uint64) int64 { return int64(min(count, 1<<32)) }
