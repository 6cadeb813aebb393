// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"cmp"
	"crypto/rand"
	"maps"
	"slices"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

const (
	// latencyBuckets of the proxies' histogram; what a tally has beyond is none of them.
	latencyBuckets = 26
	// maxCalls of one tally: two revisions of each of so many split workloads.
	maxCalls = 400
)

// tallies are the newest of each pod. Counts only rise, so that nothing is lost with an older one.
type tallies struct {
	// wanted says whether anybody may read them: else proxies are not asked, and what they say is not kept.
	wanted bool
	// instance tells serials of this process from those of another.
	instance string
	serial   uint64
	newest   map[string]reported // by pod
}

type reported struct {
	serial uint64
	tally  *meshpb.PodTally
}

func newTallies(wanted bool) tallies {
	return tallies{wanted: wanted, instance: rand.Text(), newest: map[string]reported{}}
}

// keep those of pods that are still there.
func (t *tallies) keep(index *Index) {
	maps.DeleteFunc(t.newest, func(pod string, _ reported) bool { return index.pods[pod] == nil })
}

// tally takes what a proxy has counted. Whose it is is read from the cluster, by the pod that the proxy
// has proved to be; of others it speaks only as far as it was told where they are.
func (r *registry) tally(stream *stream, tally *meshpb.Tally) {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := r.index.pods[stream.pod]
	if !r.tallies.wanted || r.streams[stream.pod] != stream || own == nil || tally.GetSession() == 0 {
		return
	}
	taken := &meshpb.PodTally{
		Namespace: own.namespace, Pod: own.name, ReceivedMilliseconds: r.now().UnixMilli(),
		Tally: &meshpb.Tally{
			Session: tally.GetSession(), AgeMilliseconds: tally.GetAgeMilliseconds(), Sequence: tally.GetSequence(), Called: r.called(stream, tally.GetCalled()),
		},
	}
	if r.index.splits[own.workload] != nil {
		taken.Workload, taken.PodTemplateHash = own.workload, own.hash
		if served := tally.GetServed(); served != nil {
			latencies := served.GetLatencies()
			taken.Tally.Served = &meshpb.Served{
				Succeeded: served.GetSucceeded(), Failed: served.GetFailed(),
				Latencies: slices.Clone(latencies[:min(len(latencies), latencyBuckets)]),
			}
		}
	}
	if taken.GetWorkload() == "" && len(taken.GetTally().GetCalled()) == 0 {
		delete(r.tallies.newest, stream.pod)
		return
	}
	r.tallies.serial++
	r.tallies.newest[stream.pod] = reported{r.tallies.serial, taken}
}

// called are the first of a tally's calls, each revision once, as far as the proxy was told how to call it.
// A pod of the workload is: its proxy passes on what no split was applied to. All is copied: a message may
// carry more than this version reads, and would be kept with it.
func (r *registry) called(stream *stream, all []*meshpb.Called) (known []*meshpb.Called) {
	if len(all) == 0 {
		return nil
	}
	told := stream.toldWorkloads()
	seen := map[revision]bool{}
	for _, called := range all[:min(len(all), maxCalls)] {
		to := revision{called.GetWorkload(), called.GetPodTemplateHash()}
		if seen[to] || !told[to.workload] || !r.index.hasRevision(to) {
			continue
		}
		seen[to] = true
		known = append(known, &meshpb.Called{
			Workload: to.workload, PodTemplateHash: to.hash, Answered: called.GetAnswered(), Lost: called.GetLost(),
		})
	}
	return known
}

// hasRevision says whether a revision is one of its workload's split.
func (i *Index) hasRevision(of revision) bool {
	split := i.splits[of.workload]
	return split != nil && slices.ContainsFunc(split.Revisions, func(known mesh.RevisionWeight) bool { return known.PodTemplateHash == of.hash })
}

// instance of the serials. It never changes.
func (r *registry) instance() string { return r.tallies.instance }

// read what is known of some workloads, as far as it came after a serial.
func (r *registry) read(workloads []string, after uint64) *meshpb.ReadResponse {
	r.mu.Lock()
	response := &meshpb.ReadResponse{Instance: r.tallies.instance, Serial: r.tallies.serial}
	asked := map[string]bool{}
	for _, workload := range workloads {
		asked[workload] = true
	}
	for _, known := range r.tallies.newest {
		if known.serial > after && concerns(known.tally, asked) {
			response.Tallies = append(response.Tallies, known.tally)
		}
	}
	index := r.index
	r.mu.Unlock()
	slices.SortFunc(response.Tallies, func(a, b *meshpb.PodTally) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetPod(), b.GetPod()))
	})
	for _, workload := range slices.Sorted(maps.Keys(asked)) {
		split := index.splits[workload]
		if split == nil {
			continue
		}
		carriers := &meshpb.Carriers{Workload: workload}
		for _, revision := range split.Revisions {
			carriers.Revisions = append(carriers.Revisions, &meshpb.RevisionWeight{
				Name: revision.Name, PodTemplateHash: revision.PodTemplateHash, Weight: revision.Weight,
			})
		}
		for _, carrier := range r.carriers(split.Split) {
			carriers.Pods = append(carriers.Pods, carrier.pod)
		}
		response.Carriers = append(response.Carriers, carriers)
	}
	return response
}

func concerns(tally *meshpb.PodTally, asked map[string]bool) bool {
	return asked[tally.GetWorkload()] || slices.ContainsFunc(tally.GetTally().GetCalled(), func(called *meshpb.Called) bool {
		return asked[called.GetWorkload()]
	})
}
