// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

// shedRetryAfter is after how many seconds a client that was refused may ask again.
const shedRetryAfter = 1

// overload is an Overload in force. What is open outlives a change of it.
type overload struct {
	of         mesh.Overload
	open       *atomic.Int64
	allowances [3]allowance
	paces      []pace // By class.
}

// allowance is what an overload makes of one priority.
type allowance struct {
	most           int64 // 0 is any number.
	admitted, shed *atomic.Uint64
}

func newOverload(of mesh.Overload, open *atomic.Int64, metrics *metrics) *overload {
	made := &overload{of: of, open: open, paces: make([]pace, len(of.Classes))}
	for i, priority := range mesh.Priorities() {
		made.allowances[i] = allowance{
			most:     int64(of.MostOf(priority)),
			admitted: metrics.overload(overloadAdmitted, of.Service, priority),
			shed:     metrics.overload(overloadShed, of.Service, priority),
		}
	}
	for i := range made.paces {
		made.paces[i].of = &of.Classes[i]
	}
	return made
}

// slot is the claim of a request on the application of the pod. The zero value is bound by nothing.
type slot struct {
	overload  *overload
	allowance *allowance
	// pace is that of its answer; nil for none.
	pace *pace
	held bool
}

// enter says whether the request may be open beside what is.
func (s *slot) enter() bool {
	if s.overload == nil || s.held {
		return true
	}
	for {
		open := s.overload.open.Load()
		if s.allowance.most > 0 && open >= s.allowance.most {
			s.allowance.shed.Add(1)
			return false
		}
		if s.overload.open.CompareAndSwap(open, open+1) {
			s.allowance.admitted.Add(1)
			s.held = true
			return true
		}
	}
}

// leave gives the claim back, once.
func (s *slot) leave() {
	if s.held {
		s.held = false
		s.overload.open.Add(-1)
	}
}

// overloads are those in force.
type overloads struct {
	list atomic.Pointer[[]*overload]
}

// apply puts overloads in force. One that is as before goes on where it was.
func (o *overloads) apply(list []mesh.Overload, metrics *metrics) {
	before := map[string]*overload{}
	if known := o.list.Load(); known != nil {
		for _, one := range *known {
			before[one.of.Service] = one
		}
	}
	if len(list) == 0 && len(before) == 0 {
		return
	}
	next := make([]*overload, 0, len(list))
	for i := range list {
		known := before[list[i].Service]
		switch {
		case known == nil:
			known = newOverload(list[i], &atomic.Int64{}, metrics)
		case !known.of.Equal(&list[i]):
			known = newOverload(list[i], known.open, metrics)
		}
		next = append(next, known)
	}
	o.list.Store(&next)
}

// slotFor is the claim that a request needs. Copies are of the lowest priority: nobody waits for them.
func (o *overloads) slotFor(from mesh.Caller, asked mesh.Asked, copied bool) slot {
	list := o.list.Load()
	if list == nil {
		return slot{}
	}
	for _, one := range *list {
		if !one.of.Means(asked.Port) {
			continue
		}
		if one.of.IsProbe(asked) {
			return slot{}
		}
		priority, claim := mesh.PriorityDefault, slot{overload: one}
		if class := one.of.ClassOf(from, asked); class >= 0 {
			priority = one.of.Classes[class].Priority
			if one.of.Classes[class].BytesPerSecond > 0 {
				claim.pace = &one.paces[class]
			}
		}
		if copied {
			priority = mesh.PriorityLow
		}
		claim.allowance = &one.allowances[allowanceOf(priority)]
		return claim
	}
	return slot{}
}

func allowanceOf(priority mesh.Priority) int {
	for i, one := range [...]mesh.Priority{mesh.PriorityCritical, mesh.PriorityDefault, mesh.PriorityLow} {
		if one == priority {
			return i
		}
	}
	return 1
}

// pace is how much of the answers of a class has been sent.
type pace struct {
	of    *mesh.TrafficClass
	mutex sync.Mutex
	began time.Time
	paced mesh.Paced
}

// take counts bytes that are to be sent, and says how long they have to wait.
func (p *pace) take(now time.Time, bytes int) (wait time.Duration) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.began.IsZero() {
		p.began = now
	}
	p.paced, wait = p.of.Pace(p.paced, now.Sub(p.began), bytes)
	return wait
}
