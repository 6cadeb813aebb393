// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

// suspectAfter connects that timed out in a row, without an answer between them, make an endpoint
// suspect: a node that vanished answers nothing, and each try at one of its pods costs a second. One
// that timed out says no more than that processors are short.
const suspectAfter = 3

// suspectTime is how long a suspect is passed over while its revision has others. Then, or when there
// are no others, one request at a time tries it, until one is connected. So a revision of which all
// endpoints were slow for a moment loses a moment of its share and no more.
const suspectTime = 5 * time.Second

// triesInDrawn is how many endpoints of the drawn revision may fail to connect before another
// revision is tried: a proxy that was cut off may hold many endpoints of a set that is gone. triesNearby is
// how many of those that are nearer than others of it may before: all of them together must leave a try for
// the other revision.
const (
	triesInDrawn = 2
	triesNearby  = 1
)

// balancer knows how much is open on each endpoint, and what requests have met there.
type balancer struct {
	mutex sync.Mutex
	loads map[string]*load
	now   func() time.Time
}

type load struct {
	open atomic.Int64
	// timeouts are those in a row.
	timeouts atomic.Int32
	// suspectSince is when a connect last timed out, in Unix nanoseconds; 0 for who is no suspect.
	suspectSince atomic.Int64
	// probed says that a request is trying the suspect.
	probed atomic.Bool
	met    experience
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
		known.met.begin(b.now())
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

// timedOut counts a connect that timed out.
func (b *balancer) timedOut(address string) {
	if known := b.of(address); known.timeouts.Add(1) >= suspectAfter {
		known.suspectSince.Store(b.now().UnixNano())
	}
}

// probe says whether a suspect may be tried now, and claims the try.
func (b *balancer) probe(address string, alone bool) bool {
	known := b.of(address)
	due := alone || b.now().UnixNano()-known.suspectSince.Load() >= int64(suspectTime)
	return due && known.probed.CompareAndSwap(false, true)
}

// tries is what one request or connection has tried.
type tries struct {
	failed map[string]bool
	// candidates and suspects are room for those of a tier.
	candidates, suspects []*mesh.Endpoint
	// probes says that the endpoint picked last is a suspect that nobody else tries meanwhile.
	probes bool
	// judged says that the revisions are compared, so that nothing of one may be hidden.
	judged bool
	// most is how much may be open at an endpoint, 0 for any number. full is one at which as much is, where
	// the next had to be of its tier.
	most uint32
	full *mesh.Endpoint
	// heeds says that who is left out now is to be passed over.
	heeds bool
	now   time.Time
}

func (t *tries) add(key string) {
	if t.failed == nil {
		t.failed = map[string]bool{}
	}
	t.failed[key] = true
}

// pick chooses the next endpoint of the tiers: not one that was tried, of two drawn by chance the
// cheaper one, suspects that are being tried already last. It returns nil when all were tried, or have as
// much open as they may.
func (b *balancer) pick(tiers []tier, tried *tries, draw func() float64) *mesh.Endpoint {
	if found := b.pickFrom(tiers, tried, draw, pass{nearby: triesNearby, most: triesInDrawn}); found != nil || tried.full != nil {
		return found
	}
	most := len(tried.failed) + 1
	if found := b.pickFrom(tiers, tried, draw, pass{nearby: most, most: most}); found != nil || tried.full != nil {
		return found
	}
	return b.pickFrom(tiers, tried, draw, pass{nearby: most, most: most, anySuspect: true})
}

// pass is one look at all tiers.
type pass struct {
	// nearby and most are how many of a tier may have failed for it to be tried.
	nearby, most int
	// anySuspect says that it is tried whatever is known of its endpoints.
	anySuspect bool
}

func (b *balancer) pickFrom(tiers []tier, tried *tries, draw func() float64, look pass) *mesh.Endpoint {
	var full *mesh.Endpoint // Of the tiers that are only nearer.
	spared := false         // One of those has others to try.
	for i, of := range tiers {
		if !of.farther {
			full, spared = nil, false
		}
		last := i+1 == len(tiers) || !tiers[i+1].farther
		failed := b.sift(of, tried, look.anySuspect)
		if failed < look.most {
			full = cmp.Or(full, tried.full)
		}
		if failed >= look.most || !last && failed >= look.nearby {
			tried.full = nil // Others are asked next, and then the rest of these.
			spared = spared || !last && len(tried.candidates) > 0
			continue
		}
		if found := b.pickSifted(tried, draw, last); found != nil {
			return found
		}
		if tried.full = nil; last && full != nil {
			if !spared {
				tried.full = full
			}
			return nil // Another revision would hide that this one is too slow.
		}
	}
	return nil
}

// pickSifted chooses one of those of a tier; last says that no other holds more of their kind.
func (b *balancer) pickSifted(tried *tries, draw func() float64, last bool) *mesh.Endpoint {
	for _, endpoint := range tried.suspects {
		if tried.probes = b.probe(endpoint.Address, last && len(tried.candidates) == 0); tried.probes {
			return endpoint
		}
	}
	if len(tried.candidates) > 0 {
		return b.cheaper(tried.candidates, draw, tried.judged)
	}
	return nil
}

// sift finds those of a tier that may be tried, and returns how many have failed.
func (b *balancer) sift(of tier, tried *tries, anySuspect bool) (failed int) {
	tried.candidates, tried.suspects, tried.probes, tried.full = tried.candidates[:0], tried.suspects[:0], false, nil
	for i, endpoint := range of.endpoints {
		known := b.of(endpoint.Address)
		switch {
		case tried.failed[endpoint.Address]:
			failed++
		case tried.heeds && !anySuspect && len(of.conducts) > 0 && of.conducts[i].isOut(tried.now):
		case tried.most > 0 && known.open.Load() >= int64(tried.most):
			tried.full = endpoint
		case anySuspect || known.suspectSince.Load() == 0:
			tried.candidates = append(tried.candidates, endpoint)
		default:
			tried.suspects = append(tried.suspects, endpoint)
		}
	}
	return failed
}

// cheaper is the power of two choices by peak EWMA: of two endpoints the one at which so many requests,
// each of which takes so long, are over sooner. An endpoint that fails costs a penalty: fast errors
// attract nothing.
//
// While the workload is split both would hide from the gate what users of the revision will meet: a canary
// of which one pod of four fails, or is slow, would look well as soon as the balancer knows. Then what is
// open decides alone, and who fails gets neither more nor less than the others.
func (b *balancer) cheaper(candidates []*mesh.Endpoint, draw func() float64, judged bool) *mesh.Endpoint {
	if len(candidates) == 1 {
		return candidates[0]
	}
	first := int(draw() * float64(len(candidates)))
	second := int(draw() * float64(len(candidates)-1))
	if second >= first {
		second++
	}
	one, other, now := b.of(candidates[first].Address), b.of(candidates[second].Address), b.now()
	better := other.cost(now) < one.cost(now)
	if judged {
		failing := one.met.failing(now) || other.met.failing(now)
		better = !failing && other.open.Load() < one.open.Load()
	}
	if better {
		return candidates[second]
	}
	return candidates[first]
}

// cost is what it takes to be sent to an endpoint.
func (l *load) cost(now time.Time) float64 {
	return float64(l.open.Load()+1) * (l.met.expected(now) + l.met.penalty(now)).Seconds()
}

// claim counts one more open on an endpoint until it is released, once. It returns nil when there is as
// much as may be.
func (b *balancer) claim(address string, most uint32) *load {
	known := b.of(address)
	for {
		open := known.open.Load()
		if most > 0 && open >= int64(most) {
			return nil
		}
		if known.open.CompareAndSwap(open, open+1) {
			return known
		}
	}
}

func (l *load) release() { l.open.Add(-1) }

// trust ends a suspicion: somebody was there.
func (l *load) trust() {
	if l.timeouts.Load() != 0 {
		l.timeouts.Store(0)
		l.suspectSince.Store(0)
	}
}
