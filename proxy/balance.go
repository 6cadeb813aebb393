// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

// suspectTime is how long an endpoint whose connect timed out is passed over while there are others:
// a node that vanished answers nothing, and each try at one of its pods costs a second.
const suspectTime = 5 * time.Second

// triesInDrawn is how many endpoints of the drawn revision may fail to connect before another
// revision is tried: a proxy that was cut off may hold many endpoints of a set that is gone.
const triesInDrawn = 2

// balancer knows how much is open on each endpoint.
type balancer struct {
	mutex sync.Mutex
	loads map[string]*load
	now   func() time.Time
}

type load struct {
	open         atomic.Int64
	suspectUntil atomic.Int64 // Unix nanoseconds.
}

func newBalancer(now func() time.Time) *balancer {
	return &balancer{loads: map[string]*load{}, now: now}
}

func (b *balancer) of(address string) *load {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	known, ok := b.loads[address]
	if !ok {
		known = &load{}
		b.loads[address] = known
	}
	return known
}

// forget drops what is known of endpoints with nothing open that keep says are gone.
func (b *balancer) forget(keep func(address string) bool) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for address, known := range b.loads {
		if known.open.Load() == 0 && !keep(address) {
			delete(b.loads, address)
		}
	}
}

// suspect makes the balancer pass over an endpoint for a while.
func (b *balancer) suspect(address string) {
	b.of(address).suspectUntil.Store(b.now().Add(suspectTime).UnixNano())
}

func (b *balancer) suspected(address string) bool {
	return b.of(address).suspectUntil.Load() > b.now().UnixNano()
}

// tries is what one request or connection has tried.
type tries struct {
	failed map[string]bool
	// candidates is room for those of a tier.
	candidates []*mesh.Endpoint
}

func (t *tries) add(key string) {
	if t.failed == nil {
		t.failed = map[string]bool{}
	}
	t.failed[key] = true
}

// pick chooses the next endpoint of the tiers: not one that was tried, of two drawn by chance the
// one with less open, suspects last. It returns nil when all were tried.
func (b *balancer) pick(tiers [][]*mesh.Endpoint, tried *tries, draw func() float64) *mesh.Endpoint {
	if found := b.pickFrom(tiers, tried, draw, false, triesInDrawn); found != nil {
		return found
	}
	most := len(tried.failed) + 1
	if found := b.pickFrom(tiers, tried, draw, false, most); found != nil {
		return found
	}
	return b.pickFrom(tiers, tried, draw, true, most)
}

func (b *balancer) pickFrom(tiers [][]*mesh.Endpoint, tried *tries, draw func() float64, suspects bool, most int) *mesh.Endpoint {
	for _, tier := range tiers {
		failed := 0
		tried.candidates = tried.candidates[:0]
		for _, endpoint := range tier {
			switch {
			case tried.failed[endpoint.Address]:
				failed++
			case suspects || !b.suspected(endpoint.Address):
				tried.candidates = append(tried.candidates, endpoint)
			}
		}
		if len(tried.candidates) > 0 && failed < most {
			return b.lessOpen(tried.candidates, draw)
		}
	}
	return nil
}

// lessOpen is the power of two choices.
func (b *balancer) lessOpen(candidates []*mesh.Endpoint, draw func() float64) *mesh.Endpoint {
	if len(candidates) == 1 {
		return candidates[0]
	}
	first := int(draw() * float64(len(candidates)))
	second := int(draw() * float64(len(candidates)-1))
	if second >= first {
		second++
	}
	if b.of(candidates[second].Address).open.Load() < b.of(candidates[first].Address).open.Load() {
		return candidates[second]
	}
	return candidates[first]
}

// claim counts one more open on an endpoint until it is released, once.
func (b *balancer) claim(address string) *load {
	known := b.of(address)
	known.open.Add(1)
	return known
}

func (l *load) release() { l.open.Add(-1) }
