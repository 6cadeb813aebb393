// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// census counts the Canaries of each namespace and remembers what the metrics last said of each, so
// that series which no longer hold can be taken away.
type census struct {
	lock    sync.Mutex
	entries map[types.NamespacedName]entry
	counts  map[string]int
}

// entry is what of a Canary is in labels.
type entry struct{ target, phase, verdict string }

func newCensus() *census {
	return &census{entries: map[types.NamespacedName]entry{}, counts: map[string]int{}}
}

// put returns what was there before and how many Canaries the namespace has.
func (c *census) put(canary types.NamespacedName, now entry) (before entry, count int) {
	c.lock.Lock()
	defer c.lock.Unlock()
	before, known := c.entries[canary]
	if !known {
		c.counts[canary.Namespace]++
	}
	c.entries[canary] = now
	return before, c.counts[canary.Namespace]
}

func (c *census) remove(canary types.NamespacedName) (before entry, left int) {
	c.lock.Lock()
	defer c.lock.Unlock()
	before, known := c.entries[canary]
	if known {
		delete(c.entries, canary)
		c.counts[canary.Namespace]--
	}
	return before, c.counts[canary.Namespace]
}
