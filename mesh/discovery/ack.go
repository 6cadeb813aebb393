// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"cmp"
	"maps"
	"slices"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh"
)

// maxLaggards is how many laggards a status names.
const maxLaggards = 10

// carrier is a proxy that carries requests of a split workload: it has subscribed to a destination
// that leads to it, or runs beside one of its pods.
type carrier struct {
	pod string
	// runs says that it has reported a version at least as new as those in which it was told the
	// split, for every destination that leads to the workload and for its inbound.
	runs bool
	open map[string]openCount // by pod template hash
}

// acknowledge counts carriers. Once all ran the split (settled), a proxy that comes later gets the
// split in its first answer and cannot run an older one, so it does not count until it runs it: a
// step that has begun is not undone by a pod that starts. It is pure.
func acknowledge(carriers []carrier, settled bool) v1alpha1.ProxyCounts {
	var counts v1alpha1.ProxyCounts
	var laggards []string
	for _, carrier := range carriers {
		switch {
		case carrier.runs:
			counts.Carrying++
			counts.Acknowledged++
		case !settled:
			counts.Carrying++
			laggards = append(laggards, carrier.pod)
		}
	}
	slices.Sort(laggards)
	counts.Laggards = laggards[:min(len(laggards), maxLaggards)]
	return counts
}

// openOn sums what is open on each revision: those of the split always, others while something is.
// It is pure.
func openOn(split mesh.Split, carriers []carrier) []v1alpha1.RevisionOpen {
	sums := map[string]openCount{}
	for _, revision := range split.Revisions {
		sums[revision.PodTemplateHash] = openCount{}
	}
	for _, carrier := range carriers {
		for hash, count := range carrier.open {
			sum := sums[hash]
			sum.requests += count.requests
			sum.connections += count.connections
			sums[hash] = sum
		}
	}
	var list []v1alpha1.RevisionOpen
	for hash, sum := range sums {
		listed := slices.ContainsFunc(split.Revisions, func(r mesh.RevisionWeight) bool { return r.PodTemplateHash == hash })
		if listed || sum != (openCount{}) {
			list = append(list, v1alpha1.RevisionOpen{PodTemplateHash: hash, Requests: sum.requests, Connections: sum.connections})
		}
	}
	slices.SortFunc(list, func(a, b v1alpha1.RevisionOpen) int { return cmp.Compare(a.PodTemplateHash, b.PodTemplateHash) })
	return list
}

// splitsInForce returns the splits of the Index in force.
func (r *registry) splitsInForce() map[string]*split {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index == nil {
		return nil
	}
	return maps.Clone(r.index.splits)
}

// carriers returns the proxies that carry a split's workload.
func (r *registry) carriers(split mesh.Split) []carrier {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := map[string]carrier{}
	for pod, stream := range r.streams {
		if carries, runs := r.carries(stream, split); carries {
			found[pod] = carrier{pod: pod, runs: runs, open: openOf(stream, split.Workload)}
		}
	}
	for pod, left := range r.departed {
		if !r.mayReturn(pod, left) {
			delete(r.departed, pod)
			continue
		}
		if carried, ran := left.carried(split); carried {
			entry, connected := found[pod]
			found[pod] = carrier{pod: pod, runs: ran && (!connected || entry.runs), open: entry.open}
		}
	}
	return slices.Collect(maps.Values(found))
}

// carries says whether a stream leads to a split's workload, judged by the Index in force and not
// by what the stream has been told: a proxy that has not heard of the split yet counts most of all.
func (r *registry) carries(stream *stream, split mesh.Split) (carries, runs bool) {
	runs = true
	for address, told := range stream.subscriptions {
		entry := r.destinations[address]
		if entry != nil && hasSplit(entry.destination.Splits, split.Workload) {
			carries = true
			runs = runs && told.runs(split, stream.reported)
		}
	}
	if hasSplit(inboundSplits(stream.inbound), split.Workload) {
		carries = true
		runs = runs && stream.inboundTold.runs(split, stream.reported)
	}
	return carries, runs
}

// mayReturn says whether a proxy that has left may still run what it was told.
func (r *registry) mayReturn(pod string, left departed) bool {
	known := r.index != nil && r.index.pods[pod] != nil && !r.index.pods[pod].terminating
	return known && r.now().Sub(left.at) < departedGrace
}

func (d *departed) carried(split mesh.Split) (carried, ran bool) {
	ran = true
	for at := range d.told {
		if _, ok := d.told[at].of(split.Workload); ok {
			carried = true
			ran = ran && d.told[at].runs(split, d.reported)
		}
	}
	return carried, ran
}

func openOf(stream *stream, workload string) map[string]openCount {
	open := map[string]openCount{}
	for of, count := range stream.open {
		if of.workload == workload {
			open[of.hash] = count
		}
	}
	return open
}
