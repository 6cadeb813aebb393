// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

// departedGrace is how long a proxy that has left still counts if it may run an older split. Most
// come back within it: their stream broke, not they, and what they were told is in force there.
const departedGrace = 6 * time.Second

// registry holds the newest Index and all streams. A destination is computed once for all streams
// that subscribe to it, and a stream is woken only when one of its own has changed. Nothing is ever
// queued: a slow stream finds the newest state when it comes back for more.
type registry struct {
	now func() time.Time
	// changed has one element when the status of a split may have changed.
	changed chan struct{}

	mu    sync.Mutex
	index *Index
	// published is closed when the next Index comes.
	published    chan struct{}
	destinations map[string]*shared
	streams      map[string]*stream // by pod
	departed     map[string]departed
	// unsplit is how many requests came to each pod without a split, by workload and pod. What a pod
	// has reported stays when it goes, and is forgotten with the split.
	unsplit map[string]map[string]int64
	tallies tallies
}

// shared is a destination as all its subscribers see it.
type shared struct {
	destination *mesh.Destination
	message     *meshpb.Destination
	subscribers map[*stream]struct{}
}

func newShared(destination *mesh.Destination) *shared {
	return &shared{
		destination: destination,
		message:     meshpb.FromDestination(destination),
		subscribers: map[*stream]struct{}{},
	}
}

// departed is what a proxy ran when its stream ended.
type departed struct {
	at       time.Time
	told     []told
	reported uint64
}

// newRegistry makes one that asks proxies for what they count, or not.
func newRegistry(now func() time.Time, tallies bool) *registry {
	return &registry{
		now:          now,
		changed:      make(chan struct{}, 1),
		published:    make(chan struct{}),
		destinations: map[string]*shared{},
		streams:      map[string]*stream{},
		departed:     map[string]departed{},
		unsplit:      map[string]map[string]int64{},
		tallies:      newTallies(tallies),
	}
}

// publish puts an Index in force and wakes the streams that it concerns.
func (r *registry) publish(index *Index) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.index
	r.index = index
	for address, entry := range r.destinations {
		next := lookUp(index, address)
		if equalDestinations(entry.destination, next) {
			continue
		}
		entry.destination, entry.message = next, meshpb.FromDestination(next)
		for subscriber := range entry.subscribers {
			subscriber.wakeUp()
		}
	}
	same := sameWorkloads(before, index)
	for pod, stream := range r.streams {
		// What it was told of a pod that has been deleted stays: its proxy may still serve, and who may call it
		// must not be forgotten.
		if index.pods[pod] == nil || sameInbound(before, index, pod, same) {
			continue
		}
		next := index.Inbound(pod)
		if !equalInbounds(stream.inbound, next) {
			stream.inbound = next
			stream.wakeUp()
		}
	}
	maps.DeleteFunc(r.unsplit, func(workload string, _ map[string]int64) bool { return index.splits[workload] == nil })
	r.tallies.keep(index)
	close(r.published)
	r.published = make(chan struct{})
	r.statusChanged()
}

// current returns the Index in force, nil before the first, and a channel that is closed when the
// next one comes.
func (r *registry) current() (*Index, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.index, r.published
}

// join adds a stream for a pod. An older stream of the same pod is over: the proxy has given it up,
// be it that we have not noticed yet.
func (r *registry) join(pod string) *stream {
	r.mu.Lock()
	defer r.mu.Unlock()
	if older := r.streams[pod]; older != nil {
		r.remove(older)
		close(older.superseded)
	}
	joined := newStream(pod)
	joined.inbound = r.index.Inbound(pod)
	r.streams[pod] = joined
	joined.wakeUp()
	r.statusChanged()
	return joined
}

func (r *registry) leave(stream *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.streams[stream.pod] == stream {
		r.remove(stream)
		r.statusChanged()
	}
}

func (r *registry) remove(stream *stream) {
	delete(r.streams, stream.pod)
	for address := range stream.subscriptions {
		r.unsubscribeOne(stream, address)
	}
	left := departed{at: r.now(), reported: stream.reported}
	for _, told := range stream.subscriptions {
		if len(told.splits) > 0 {
			left.told = append(left.told, *told)
		}
	}
	if len(stream.inboundTold.splits) > 0 {
		left.told = append(left.told, stream.inboundTold)
	}
	if len(left.told) > 0 {
		r.departed[stream.pod] = left
	}
}

// subscribe adds to a stream's subscriptions; false when there are too many.
func (r *registry) subscribe(stream *stream, addresses []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.streams[stream.pod] != stream {
		return true // It is over and only does not know yet: nobody would undo what it adds.
	}
	for _, address := range addresses {
		if stream.subscriptions[address] != nil {
			continue
		}
		if len(stream.subscriptions) >= maxSubscriptions {
			return false
		}
		stream.subscriptions[address] = &told{}
		entry := r.destinations[address]
		if entry == nil {
			entry = newShared(lookUp(r.index, address))
			r.destinations[address] = entry
		}
		entry.subscribers[stream] = struct{}{}
	}
	stream.wakeUp()
	r.statusChanged()
	return true
}

func (r *registry) unsubscribe(stream *stream, addresses []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, address := range addresses {
		r.unsubscribeOne(stream, address)
		delete(stream.subscriptions, address)
	}
	r.statusChanged()
}

func (r *registry) unsubscribeOne(stream *stream, address string) {
	entry := r.destinations[address]
	if entry == nil {
		return
	}
	delete(entry.subscribers, stream)
	if len(entry.subscribers) == 0 {
		delete(r.destinations, address)
	}
}

// report takes what a proxy runs and has open. A version that it was never sent is taken as the
// newest that it was.
func (r *registry) report(stream *stream, report *meshpb.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	stream.reported = min(report.GetVersion(), stream.version)
	stream.open = readOpen(report.GetOpen())
	r.countUnsplit(stream, toCount(report.GetUnsplit()))
	if r.streams[stream.pod] == stream && stream.reported > 0 {
		// A proxy subscribes before it reports: from here on the stream speaks for it.
		delete(r.departed, stream.pod)
	}
	r.statusChanged()
}

// countUnsplit keeps the most that a pod has reported: its proxy may have begun anew.
func (r *registry) countUnsplit(stream *stream, count int64) {
	if count == 0 || r.index == nil || stream.inbound == nil || r.index.splits[stream.inbound.Workload] == nil {
		return
	}
	pods := r.unsplit[stream.inbound.Workload]
	if pods == nil {
		pods = map[string]int64{}
		r.unsplit[stream.inbound.Workload] = pods
	}
	pods[stream.pod] = max(pods[stream.pod], count)
}

// unsplitRequests is how many requests came to a workload without a split since it has had one.
func (r *registry) unsplitRequests(workload string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := int64(0)
	for _, count := range r.unsplit[workload] {
		sum += count
	}
	return sum
}

// next returns the next response of a stream: all that has changed since the last one, nil when
// nothing has. What it returns counts as told.
func (r *registry) next(stream *stream) *meshpb.WatchResponse {
	r.mu.Lock()
	defer r.mu.Unlock()
	response := &meshpb.WatchResponse{Version: stream.version + 1, Tallies: r.tallies.wanted}
	for _, address := range slices.Sorted(maps.Keys(stream.subscriptions)) {
		known, entry := stream.subscriptions[address], r.destinations[address]
		if entry == nil || known.destination == entry.destination {
			continue
		}
		known.destination = entry.destination
		known.tell(entry.destination.Splits, response.Version)
		response.Destinations = append(response.Destinations, entry.message)
	}
	if stream.toldInbound != stream.inbound {
		stream.toldInbound = stream.inbound
		stream.inboundTold.tell(inboundSplits(stream.inbound), response.Version)
		response.Inbound = meshpb.FromInbound(stream.inbound)
	}
	if len(response.Destinations) == 0 && response.Inbound == nil {
		return nil
	}
	stream.version = response.Version
	r.statusChanged()
	return response
}

// sameWorkloads returns the workloads whose pods and split are equal in two Indexes. With it most
// inbounds need not be made to see that they have not changed.
func sameWorkloads(before, after *Index) map[string]bool {
	if before == nil {
		return nil
	}
	equalPods := func(a, b *pod) bool { return *a == *b }
	same := make(map[string]bool, len(after.workloads))
	for workload, pods := range after.workloads {
		old, fresh := before.splits[workload], after.splits[workload]
		equalSplit := old == nil && fresh == nil || old != nil && fresh != nil && old.Equal(fresh.Split)
		same[workload] = equalSplit && slices.EqualFunc(pods, before.workloads[workload], equalPods)
	}
	return same
}

// sameInbound says that a pod's inbound cannot have changed.
func sameInbound(before, after *Index, key string, same map[string]bool) bool {
	if before == nil {
		return false
	}
	old, fresh := before.pods[key], after.pods[key]
	return old != nil && fresh != nil && *old == *fresh && (fresh.workload == "" || same[fresh.workload]) &&
		slices.Equal(before.ports[key], after.ports[key]) && before.access.of(old).Equal(after.access.of(fresh)) &&
		slices.EqualFunc(before.overloadsOf(old), after.overloadsOf(fresh), equalOverloads)
}

func equalOverloads(a, b mesh.Overload) bool { return a.Equal(&b) }

func (r *registry) statusChanged() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// lookUp answers for an address as it was subscribed. What is no address leads nowhere in the mesh.
func lookUp(index *Index, text string) *mesh.Destination {
	address, err := netip.ParseAddrPort(text)
	if err != nil {
		return &mesh.Destination{Address: text, Unknown: true, Protocol: mesh.ProtocolDetect}
	}
	destination := index.Destination(address)
	destination.Address = text
	return destination
}

func equalDestinations(a, b *mesh.Destination) bool {
	return a.Address == b.Address && a.Unknown == b.Unknown && a.PodAddress == b.PodAddress &&
		a.Service == b.Service && a.Protocol == b.Protocol && a.HTTP2 == b.HTTP2 && a.Timeouts == b.Timeouts &&
		a.MaxParallelRequests == b.MaxParallelRequests && a.Retries.Equal(b.Retries) &&
		a.OutlierEjection.Equal(b.OutlierEjection) &&
		slices.Equal(a.Endpoints, b.Endpoints) && slices.EqualFunc(a.Splits, b.Splits, mesh.Split.Equal)
}

func equalInbounds(a, b *mesh.Inbound) bool {
	return a.Workload == b.Workload && a.PodTemplateHash == b.PodTemplateHash && a.Location == b.Location &&
		slices.EqualFunc(inboundSplits(a), inboundSplits(b), mesh.Split.Equal) &&
		slices.Equal(a.Peers, b.Peers) && maps.Equal(a.Protocols, b.Protocols) && slices.Equal(a.HTTP2Ports, b.HTTP2Ports) && a.Access.Equal(b.Access) &&
		slices.EqualFunc(a.Overloads, b.Overloads, equalOverloads)
}
