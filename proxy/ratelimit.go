// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

const (
	// ratedMost bounds the clients that are told apart for one limit. What is beyond shares one allowance.
	ratedMost = 10_000
	// restedEvery is the least time between two looks for clients that need not be remembered.
	restedEvery = time.Second
)

// ratedClient is whom a limit counts for: an identity, or an address outside the mesh.
type ratedClient struct {
	identity string
	address  netip.Addr
}

// ratedAs tells clients apart. Who has an address of IPv6 mostly has all of its network.
func ratedAs(from mesh.Caller) ratedClient {
	if from.Identity != "" {
		return ratedClient{identity: from.Identity}
	}
	if from.Address.Is6() {
		network, err := from.Address.Prefix(64)
		if err == nil {
			return ratedClient{address: network.Addr()}
		}
	}
	return ratedClient{address: from.Address}
}

// rated are the clients of one limit.
type rated struct {
	limit   mesh.RateLimit
	mutex   sync.Mutex
	clients map[ratedClient]mesh.Rated
	// others share one allowance.
	others mesh.Rated
	// looked is when rested clients were last looked for.
	looked time.Duration
}

// take counts a request, or says how long its client has to wait.
func (r *rated) take(from ratedClient, now time.Duration) (wait time.Duration, ok bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	kept, known := r.clients[from]
	if !known && len(r.clients) >= ratedMost {
		r.forgetRested(now)
		if len(r.clients) >= ratedMost {
			r.others, wait, ok = r.limit.Take(r.others, now)
			return wait, ok
		}
	}
	next, wait, ok := r.limit.Take(kept, now)
	r.clients[from] = next
	return wait, ok
}

// forgetRested forgets clients that are as if they had never asked.
func (r *rated) forgetRested(now time.Duration) {
	if r.looked > 0 && now-r.looked < restedEvery {
		return
	}
	r.looked = now
	for from, kept := range r.clients {
		if kept.Rested(now) {
			delete(r.clients, from)
		}
	}
}

// rates keeps what clients have asked of each limit in force.
type rates struct {
	now   func() time.Time
	began time.Time
	mutex sync.RWMutex
	// limits by name.
	limits map[string]*rated
}

func newRates(now func() time.Time) *rates {
	return &rates{now: now, began: now(), limits: map[string]*rated{}}
}

// apply puts limits in force. One that is as before goes on counting where it was.
func (r *rates) apply(access *mesh.Access) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	before := r.limits
	r.limits = map[string]*rated{}
	if access == nil {
		return
	}
	for _, limit := range access.Limits {
		if same := before[limit.Name]; same != nil && same.limit == limit {
			r.limits[limit.Name] = same
			continue
		}
		r.limits[limit.Name] = &rated{limit: limit, clients: map[ratedClient]mesh.Rated{}}
	}
}

// take counts a request for all limits, or names the first that it exceeds.
func (r *rates) take(access *mesh.Access, from mesh.Caller) (exceeded string, wait time.Duration) {
	now := r.now().Sub(r.began)
	client := ratedAs(from)
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	for i := range access.Limits {
		of := r.limits[access.Limits[i].Name]
		if of == nil {
			continue // A newer configuration has just lifted it.
		}
		if wait, ok := of.take(client, now); !ok {
			return of.limit.Name, wait
		}
	}
	return "", 0
}

// limited is the answer to a client that asks too often.
func limited(wait time.Duration) refusal {
	seconds := int64((wait + time.Second - 1) / time.Second)
	return refusal{
		status: http.StatusTooManyRequests, code: errorRateLimited,
		text: "the caller asks more often than it may", retryAfter: max(seconds, 1),
	}
}
