// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"hash/maphash"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

const (
	// ratedMost bounds the clients of a table that are told apart for certain.
	ratedMost = 2048
	// ratedShared is how many allowances clients beyond that share.
	ratedShared = 4096
	// ratedLooks is how many clients are looked at for one that need not be remembered.
	ratedLooks = 8
)

// ratedTable keeps what clients have asked. Who comes when it is full takes the place of one that is as if
// it had never asked, where a look at a few finds one. Else it shares an allowance with others whom nobody
// can choose: who comes from very many addresses uses up some of these, and nobody who has asked of late
// loses a place.
type ratedTable struct {
	clients map[ratedClient]mesh.Rated
	// shared is nil until somebody needs it; seed says who has which.
	shared *[ratedShared]mesh.Rated
	seed   maphash.Seed
}

func newRatedTable() ratedTable {
	return ratedTable{clients: map[ratedClient]mesh.Rated{}, seed: maphash.MakeSeed()}
}

// ratedNext is what a table is to keep of a client: shared is where, unless the client has a place of its own.
type ratedNext struct {
	table  *ratedTable
	shared *mesh.Rated
	value  mesh.Rated
}

func (n *ratedNext) keep(from ratedClient) {
	if n.shared != nil {
		*n.shared = n.value
		return
	}
	n.table.clients[from] = n.value
}

// find is what is kept of a client, and where if it shares that.
func (t *ratedTable) find(from ratedClient, now time.Duration) (kept mesh.Rated, shared *mesh.Rated) {
	if kept, known := t.clients[from]; known {
		return kept, nil
	}
	room := t.hasRoom(now)
	if room && t.shared == nil {
		return 0, nil
	}
	if t.shared == nil {
		t.shared = new([ratedShared]mesh.Rated)
	}
	shared = &t.shared[t.hash(from)%ratedShared]
	if room { // Who shared before has used what others have, and goes on from there.
		return *shared, nil
	}
	return *shared, shared
}

func (t *ratedTable) hash(from ratedClient) uint64 {
	if from.identity != "" {
		return maphash.String(t.seed, from.identity)
	}
	return maphash.Bytes(t.seed, from.network[:])
}

// hasRoom says whether there is a place for one more client, which it makes if it soon finds one that has
// rested. Maps begin anywhere, so that each time it looks at others.
func (t *ratedTable) hasRoom(now time.Duration) bool {
	if len(t.clients) < ratedMost {
		return true
	}
	looks := 0
	for from, kept := range t.clients {
		if kept.Rested(now) {
			delete(t.clients, from)
			return true
		}
		if looks++; looks == ratedLooks {
			return false
		}
	}
	return false
}
