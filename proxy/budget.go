// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"sync"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

// budgetSlots are how many parts an interval is counted in: what is older by up to one of them still counts.
const budgetSlots = 10

// interval counts what happened in a time that ends now.
type interval struct {
	slots [budgetSlots + 1]uint64
	// last is the number of the newest slot since the Unix epoch.
	last int64
}

// move forgets what is too long ago.
func (i *interval) move(now time.Time, milliseconds uint32) {
	length := max((int64(milliseconds)+budgetSlots-1)/budgetSlots, 1)
	number := now.UnixMilli() / length
	switch passed := number - i.last; {
	case passed >= int64(len(i.slots)) || passed < 0: // Or the clock was set back.
		i.slots = [budgetSlots + 1]uint64{}
	default:
		for n := i.last + 1; n <= number; n++ {
			i.slots[n%int64(len(i.slots))] = 0
		}
	}
	i.last = number
}

// add counts one more, after a move.
func (i *interval) add() { i.slots[i.last%int64(len(i.slots))]++ }

func (i *interval) sum() (sum uint64) {
	for _, slot := range i.slots {
		sum += slot
	}
	return sum
}

// retryBudget bounds the retries to one Service.
type retryBudget struct {
	mutex sync.Mutex
	// requests and retries are those of the budget's interval, least the retries of that of the least rate.
	requests, retries, least interval
}

func (b *retryBudget) move(now time.Time, policy *mesh.Retries) {
	b.requests.move(now, policy.Interval)
	b.retries.move(now, policy.Interval)
	b.least.move(now, policy.MinInterval)
}

// request counts a request.
func (b *retryBudget) request(now time.Time, policy *mesh.Retries) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.move(now, policy)
	b.requests.add()
}

// take counts a retry if there may be one more.
func (b *retryBudget) take(now time.Time, policy *mesh.Retries) bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.move(now, policy)
	within := (b.retries.sum()+1)*100 <= b.requests.sum()*uint64(policy.Percent)
	if !within && b.least.sum() >= uint64(policy.MinCount) {
		return false
	}
	b.retries.add()
	b.least.add()
	return true
}

// retryBudgets are those of all Services.
type retryBudgets struct {
	mutex sync.Mutex
	of    map[string]*retryBudget
}

func newRetryBudgets() *retryBudgets { return &retryBudgets{of: map[string]*retryBudget{}} }

// begin counts a request to a destination that has a policy of retries.
func (b *retryBudgets) begin(now time.Time, to *mesh.Destination) *retryBudget {
	key := to.Service.Namespace + "/" + to.Service.Name
	b.mutex.Lock()
	known := b.of[key]
	if known == nil {
		known = &retryBudget{}
		b.of[key] = known
	}
	b.mutex.Unlock()
	known.request(now, to.Retries)
	return known
}

// forget drops the budgets of Services that a snapshot has no policy for.
func (b *retryBudgets) forget(snapshot *mesh.Snapshot) {
	kept := map[string]bool{}
	for _, destination := range snapshot.Destinations {
		if destination.Retries != nil {
			kept[destination.Service.Namespace+"/"+destination.Service.Name] = true
		}
	}
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for key := range b.of {
		if !kept[key] {
			delete(b.of, key)
		}
	}
}
