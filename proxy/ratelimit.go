// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/http"
	"sync"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

// ratedClient is whom a limit counts for: an identity, or a network outside the mesh.
type ratedClient struct {
	identity string
	network  [16]byte
}

// ratedAs tells clients apart. Who has an address of IPv6 mostly has all of its network.
func ratedAs(from mesh.Caller) ratedClient {
	if from.Identity != "" {
		return ratedClient{identity: from.Identity}
	}
	if from.Address.Is6() {
		if network, err := from.Address.Prefix(64); err == nil {
			return ratedClient{network: network.Addr().As16()}
		}
	}
	return ratedClient{network: from.Address.As16()}
}

// rated are the clients of one limit. Members have an identity of the mesh, which nobody makes for itself;
// addresses cost little, so that however many come they take nothing from members.
type rated struct {
	limit              mesh.RateLimit
	members, strangers ratedTable
	// next is what becomes of the client at hand when its request counts; means that it does for this limit.
	next  ratedNext
	means bool
}

func newRated(limit mesh.RateLimit) *rated {
	return &rated{limit: limit, members: newRatedTable(), strangers: newRatedTable()}
}

// look works out what becomes of a client that asks.
func (r *rated) look(from ratedClient, now time.Duration) (wait time.Duration, ok bool) {
	r.next.table = &r.strangers
	if from.identity != "" {
		r.next.table = &r.members
	}
	var kept mesh.Rated
	kept, r.next.shared = r.next.table.find(from, now)
	r.next.value, wait, ok = r.limit.Take(kept, now)
	return wait, ok
}

// rates keeps what clients have asked of each limit in force.
type rates struct {
	now   func() time.Time
	began time.Time
	mutex sync.Mutex
	// limits in the order of the configuration.
	limits []*rated
}

func newRates(now func() time.Time) *rates { return &rates{now: now, began: now()} }

// apply puts limits in force. One that is as before goes on counting where it was.
func (r *rates) apply(access *mesh.Access) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	before := map[string]*rated{}
	for _, of := range r.limits {
		before[of.limit.Name] = of
	}
	r.limits = nil
	if access == nil {
		return
	}
	for _, limit := range access.Limits {
		of := before[limit.Name]
		if of == nil || !of.limit.Equal(&limit) {
			of = newRated(limit)
		}
		r.limits = append(r.limits, of)
	}
}

// rateVerdict is what became of a request.
type rateVerdict struct {
	// exceeded is the limit for which its client has to wait longest; empty when it is let in.
	exceeded string
	wait     time.Duration
	// audited is the first limit in audit mode that it exceeds.
	audited string
}

// take counts a request for all limits that mean it, or for none when it exceeds one.
func (r *rates) take(from mesh.Caller, asked mesh.Asked) (verdict rateVerdict) {
	client := ratedAs(from)
	r.mutex.Lock()
	defer r.mutex.Unlock()
	now := r.now().Sub(r.began)
	for _, of := range r.limits {
		if of.means = of.limit.Means(asked); !of.means {
			continue
		}
		wait, ok := of.look(client, now)
		if ok {
			continue
		}
		of.means = false
		switch {
		case of.limit.Mode != mesh.AccessAudit && wait > verdict.wait:
			verdict.exceeded, verdict.wait = of.limit.Name, wait
		case of.limit.Mode == mesh.AccessAudit && verdict.audited == "":
			verdict.audited = of.limit.Name
		}
	}
	if verdict.exceeded != "" {
		return verdict
	}
	for _, of := range r.limits {
		if of.means {
			of.next.keep(client)
		}
	}
	return verdict
}

// limited is the answer to a client that asks too often.
func limited(wait time.Duration) refusal {
	seconds := int64((wait + time.Second - 1) / time.Second)
	return refusal{
		status: http.StatusTooManyRequests, code: errorRateLimited,
		text: "the caller asks more often than it may", retryAfter: max(seconds, 1),
	}
}

// isWithin counts a request, or a connection that is carried as bytes, of a client that an AccessPolicy has
// let in. It says how long the client has to wait when it asks too often.
func (p *Proxy) isWithin(access *mesh.Access, from mesh.Caller, asked mesh.Asked, port string) (wait time.Duration, ok bool) {
	if len(access.Limits) == 0 {
		return 0, true
	}
	verdict := p.rates.take(from, asked)
	if verdict.exceeded == "" && verdict.audited == "" {
		return 0, true
	}
	p.metrics.limited(port, from, asked, verdict)
	return verdict.wait, verdict.exceeded == ""
}
