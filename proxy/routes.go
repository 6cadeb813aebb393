// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"sync"

	"github.com/sluice-mesh/sluice/mesh"
)

// routesMost bounds what is kept: a caller may dial any port of a pod.
const routesMost = 4096

// routes keeps the orders in which the endpoints of one snapshot are tried. Each follows from the
// snapshot and from what was drawn, and is worked out when it is first needed.
type routes struct {
	mutex sync.RWMutex
	kept  map[routeKey][]tier
	// at is where the pod runs.
	at mesh.Location
	// ejections are what endpoints are left out by; nil for none.
	ejections *ejections
}

// routeKey is what an order follows from: where a request goes to, or the pod that it has come to,
// and what was drawn for it.
type routeKey struct {
	to *mesh.Destination
	at *mesh.Inbound
	// own is the address that a request at a pod has come to.
	own            string
	workload, hash string
	// alone says that no other endpoint will do.
	alone bool
}

func newRoutes(at mesh.Location) *routes { return &routes{kept: map[routeKey][]tier{}, at: at} }

// tiers returns what is kept, or what work returns.
func (r *routes) tiers(key routeKey, work func() []tier) []tier {
	r.mutex.RLock()
	tiers, ok := r.kept[key]
	r.mutex.RUnlock()
	if ok {
		return tiers
	}
	tiers = work()
	r.ejections.attach(key.to, tiers)
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if len(r.kept) < routesMost {
		r.kept[key] = tiers
	}
	return tiers
}
