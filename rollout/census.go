// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// census counts the Canaries of each namespace and remembers their targets, which are no longer known
// when a Canary is gone.
type census struct {
	lock    sync.Mutex
	targets map[types.NamespacedName]string
	counts  map[string]int
}

func newCensus() *census {
	return &census{targets: map[types.NamespacedName]string{}, counts: map[string]int{}}
}

func (c *census) add(namespace, name, target string) int {
	c.lock.Lock()
	defer c.lock.Unlock()
	key := types.NamespacedName{Namespace: namespace, Name: name}
	if _, known := c.targets[key]; !known {
		c.counts[namespace]++
	}
	c.targets[key] = target
	return c.counts[namespace]
}

func (c *census) remove(namespace, name string) (string, int) {
	c.lock.Lock()
	defer c.lock.Unlock()
	key := types.NamespacedName{Namespace: namespace, Name: name}
	target, known := c.targets[key]
	if known {
		delete(c.targets, key)
		c.counts[namespace]--
	}
	return target, c.counts[namespace]
}
