// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

// tallyInterval is the time between two tallies: two of them take a bad canary back within a second and a half.
const tallyInterval = 500 * time.Millisecond

// tallier makes tallies of what the metrics have counted, as a scrape would: no request knows of it.
// It is not for concurrent use.
type tallier struct {
	metrics *metrics
	// session is 0 while there is nothing to report.
	session, sequence uint64
	began             time.Time
	// before is what had been counted when the session began.
	before counted
}

// counted is what there is to report.
type counted struct {
	served served
	called map[revision]called
}

type served struct {
	succeeded, failed uint64
	latencies         [bucketCount + 1]uint64
}

type called struct{ answered, lost uint64 }

// wanted begins or ends the session, which lasts while the control plane asks for tallies and a workload
// has a split, and says whether there is one.
func (t *tallier) wanted(asked bool, snapshot *mesh.Snapshot, now time.Time) bool {
	switch {
	case !asked || len(splitWorkloads(snapshot)) == 0:
		*t = tallier{metrics: t.metrics}
	case t.session == 0:
		*t = tallier{metrics: t.metrics, session: 1 + rand.Uint64N(1<<63), began: now, before: t.metrics.counted()}
	}
	return t.session != 0
}

// tally is what was counted in the session. Of whom the proxy calls only workloads with a split are named.
func (t *tallier) tally(snapshot *mesh.Snapshot, now time.Time) *meshpb.Tally {
	t.sequence++
	of, since := t.metrics.counted(), t.before
	tally := &meshpb.Tally{
		Session: t.session, Sequence: t.sequence, AgeMilliseconds: uint64(max(0, now.Sub(t.began).Milliseconds())),
		Served: &meshpb.Served{Succeeded: of.served.succeeded - since.served.succeeded, Failed: of.served.failed - since.served.failed},
	}
	for i, count := range of.served.latencies {
		tally.Served.Latencies = append(tally.Served.Latencies, count-since.served.latencies[i])
	}
	split := splitWorkloads(snapshot)
	for to, count := range of.called {
		if !split[to.workload] {
			continue
		}
		before := since.called[to]
		tally.Called = append(tally.Called, &meshpb.Called{
			Workload: to.workload, PodTemplateHash: to.hash, Answered: count.answered - before.answered, Lost: count.lost - before.lost,
		})
	}
	slices.SortFunc(tally.Called, func(a, b *meshpb.Called) int {
		return cmp.Or(cmp.Compare(a.GetWorkload(), b.GetWorkload()), cmp.Compare(a.GetPodTemplateHash(), b.GetPodTemplateHash()))
	})
	return tally
}

// counted sums up the series by what a gate tells apart. Probes and copies are no requests of users. A
// request whose client left is known to the pod that it was sent to, for each of its callers.
func (m *metrics) counted() counted {
	m.mutex.RLock()
	defer m.mutex.RUnlock()
	sum := counted{called: map[revision]called{}}
	for labels, series := range m.traffic {
		if labels.routeName == routeProbe || labels.routeName == routeMirror {
			continue
		}
		switch {
		case labels.direction == directionInbound:
			series.addServed(&sum.served)
		case labels.dstHash != "" && labels.dstHash != otherValue:
			to := revision{labels.dstNamespace + "/" + labels.dstDeployment, labels.dstHash}
			sum.called[to] = series.plusCalled(sum.called[to])
		}
	}
	return sum
}

func (s *trafficSeries) addServed(sum *served) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for labels, count := range s.responses {
		if labels.classification == classFailure {
			sum.failed += count
		} else {
			sum.succeeded += count
		}
	}
	for _, latencies := range s.latencies {
		for i, count := range latencies.counts {
			sum.latencies[i] += count
		}
	}
}

func (s *trafficSeries) plusCalled(sum called) called {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for labels, count := range s.responses {
		switch {
		case isRefusal(labels.failure): // No pod has answered, so that none says that it has.
		case labels.status != 0:
			sum.answered += count
		case labels.failure != errorCanceled:
			sum.lost += count
		}
	}
	return sum
}
