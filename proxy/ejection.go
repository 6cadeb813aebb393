// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

// conduct is what is held against one endpoint of a Service that has a policy of ejection.
type conduct struct {
	service mesh.Service
	address string
	// row is how many requests have failed since one that did not.
	row atomic.Uint32
	// until is when it is no longer left out, in Unix nanoseconds; 0 for who has not been.
	until atomic.Int64
	// judged is the number of the interval, since the Unix epoch, before which it was last compared.
	judged atomic.Int64

	mutex sync.Mutex
	// counted is since then. Who judges ends an interval, not the clock of a request: one that was long under
	// way, or was looked at a moment before another, would take what was counted with it.
	counted answers
	// times is how often it was left out of late.
	times int
}

func slotOf(now time.Time, policy *mesh.OutlierEjection) int64 {
	return now.UnixMilli() / int64(policy.Interval)
}

// isOut says that the endpoint is left out. It may be asked of nil.
func (s *conduct) isOut(now time.Time) bool {
	if s == nil {
		return false
	}
	until := s.until.Load()
	return until != 0 && now.UnixNano() < until
}

// ended notes what came of a request.
func (s *conduct) ended(failed bool) {
	if failed {
		s.row.Add(1)
	} else if s.row.Load() != 0 {
		s.row.Store(0)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.counted.requests++
	if failed {
		s.counted.failures++
	}
}

// isOver says that another interval has begun than the one in which the endpoint was last compared. Who
// has looked at the clock just before it began has not seen another.
func (s *conduct) isOver(slot int64) bool {
	last := s.judged.Load()
	return slot != last && slot != last-1
}

// isDue says that there is something to judge.
func (s *conduct) isDue(slot int64, policy *mesh.OutlierEjection) bool {
	return s.isOver(slot) || policy.ConsecutiveFailures > 0 && s.row.Load() >= policy.ConsecutiveFailures
}

// takeRow says whether so many requests in a row have failed that the endpoint is to be left out, once.
func (s *conduct) takeRow(policy *mesh.OutlierEjection) bool {
	row := s.row.Load()
	return policy.ConsecutiveFailures > 0 && row >= policy.ConsecutiveFailures && s.row.CompareAndSwap(row, 0)
}

// whole is what was counted in the interval before a slot, once; nothing for who was left out. An interval in
// which it answered takes one of its times off. Nobody else judges meanwhile.
func (s *conduct) whole(now time.Time, slot int64) answers {
	if !s.isOver(slot) {
		return answers{}
	}
	last := s.judged.Swap(slot)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	counted := s.counted
	s.counted = answers{}
	switch {
	case s.isOut(now), s.until.Swap(0) != 0:
		return answers{} // What was counted is from before.
	case slot != last+1:
		return answers{} // It is of more than one interval, or the clock was set back.
	}
	if counted.requests > counted.failures && s.times > 0 {
		s.times--
	}
	return counted
}

// leaveOut has nobody choose the endpoint for a time.
func (s *conduct) leaveOut(now time.Time, policy *mesh.OutlierEjection, chance float64) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.times++
	s.until.Store(now.Add(ejectionTime(policy, s.times, chance)).UnixNano())
}

// ejections are the conducts of the endpoints of all Services that have a policy of ejection.
type ejections struct {
	// mutex is held by who judges, so that no more are left out than may be.
	mutex   sync.Mutex
	of      map[conductKey]*conduct
	metrics *metrics
	log     *slog.Logger
}

type conductKey struct{ namespace, service, address string }

func newEjections(metrics *metrics, log *slog.Logger) *ejections {
	return &ejections{of: map[conductKey]*conduct{}, metrics: metrics, log: log}
}

// attach gives the first tiers, which hold all ready endpoints of a workload, the conducts of these.
func (e *ejections) attach(to *mesh.Destination, tiers []tier) {
	if e == nil || to == nil || to.OutlierEjection == nil {
		return
	}
	group, endpoints := alike(tiers), 0
	for _, of := range group {
		endpoints += len(of.endpoints)
	}
	if endpoints < 2 {
		return // The last is never left out, and what was held against it elsewhere stays there.
	}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	for i := range group {
		for _, endpoint := range group[i].endpoints {
			group[i].conducts = append(group[i].conducts, e.conduct(to.Service, endpoint.Address))
		}
	}
}

func (e *ejections) conduct(service mesh.Service, address string) *conduct {
	key := conductKey{service.Namespace, service.Name, address}
	known := e.of[key]
	if known == nil {
		known = &conduct{service: service, address: address}
		e.of[key] = known
	}
	return known
}

// alike are the first tier and those that are only farther.
func alike(tiers []tier) []tier {
	for i := range tiers {
		if i > 0 && !tiers[i].farther {
			return tiers[:i]
		}
	}
	return tiers
}

// look judges the endpoints of a route if there is something to judge. It returns false when so many of
// them are left out, since others have gone, that they must serve.
func (e *ejections) look(now time.Time, tiers []tier, policy *mesh.OutlierEjection) bool {
	of := alike(tiers)
	slot, due, all, out := slotOf(now, policy), false, 0, 0
	for i := range of {
		for _, one := range of[i].conducts {
			all++
			if one.isOut(now) {
				out++
			}
			due = due || one.isDue(slot, policy)
		}
	}
	if due {
		e.judge(now, of, policy)
	}
	return out <= mostEjected(all, policy.MaxPercent)
}

// conductOf is that of an endpoint which a route has led to; nil for none.
func conductOf(tiers []tier, endpoint *mesh.Endpoint) *conduct {
	for _, of := range alike(tiers) {
		for i, one := range of.conducts {
			if of.endpoints[i] == endpoint {
				return one
			}
		}
	}
	return nil
}

func (e *ejections) tell(one *conduct, reason ejectionReason) {
	e.log.Warn("endpoint left out", "endpoint", one.address, "namespace", one.service.Namespace,
		"service", one.service.Name, "reason", string(reason), "until", time.Unix(0, one.until.Load()).UTC().Format(time.RFC3339))
}

// forget drops what is known of endpoints of which a snapshot knows nothing.
func (e *ejections) forget(snapshot *mesh.Snapshot) {
	kept := map[conductKey]bool{}
	for _, destination := range snapshot.Destinations {
		for i := range destination.Endpoints {
			if destination.OutlierEjection != nil {
				kept[conductKey{destination.Service.Namespace, destination.Service.Name, destination.Endpoints[i].Address}] = true
			}
		}
	}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	for key := range e.of {
		if !kept[key] {
			delete(e.of, key)
		}
	}
}

// left is how many endpoints of each Service are left out.
func (e *ejections) left(now time.Time) map[mesh.Service]int {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	left := map[mesh.Service]int{}
	for key, one := range e.of {
		if one.isOut(now) {
			left[mesh.Service{Namespace: key.namespace, Name: key.service}]++
		}
	}
	return left
}
