// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/sluice-mesh/sluice/e2e/load"
	"github.com/sluice-mesh/sluice/e2e/load/incluster"
)

// window is the time over which the table shows success rates and latencies.
const window = 5 * time.Second

// meter reads what the clients count.
type meter struct {
	kube    kubernetes.Interface
	clients []incluster.Pod

	mu      sync.Mutex
	samples []sample // oldest first, the first one older than the window
}

type sample struct {
	at     time.Time
	counts load.Counts
}

// read asks all clients. A client that does not answer leaves the picture as it was: what it counts
// is not lost, only seen later.
func (m *meter) read(ctx context.Context, now time.Time) error {
	all := make([]load.Counts, len(m.clients))
	for i, client := range m.clients {
		counts, err := client.Counts(ctx, m.kube)
		if err != nil {
			return err
		}
		all[i] = counts
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.samples = append(m.samples, sample{at: now, counts: load.Merge(all...)})
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= window {
		m.samples = m.samples[1:]
	}
	return nil
}

// total is everything counted so far.
func (m *meter) total() load.Counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.samples) == 0 {
		return load.Counts{}
	}
	return m.samples[len(m.samples)-1].counts
}

// recent is what a version answered within the window.
func (m *meter) recent(version string) load.Version {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.samples) == 0 {
		return load.Version{}
	}
	newest := m.samples[len(m.samples)-1].counts.Versions[version]
	return newest.Sub(m.samples[0].counts.Versions[version])
}
