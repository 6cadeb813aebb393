// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// drainLinger is how long nothing must have been carried before a draining proxy leaves: the
	// kube-proxies of other nodes still send new connections for a moment.
	drainLinger = 3 * time.Second
	// drainDeadline is when it leaves whatever is open. It lies within the default grace period of
	// a pod, 30 s.
	drainDeadline = 25 * time.Second
)

// activity counts what is open, so that the proxy can leave when nothing is.
type activity struct {
	mutex    sync.Mutex
	open     int
	lastEnd  time.Time
	now      func() time.Time
	drainNow atomic.Bool
}

func newActivity(now func() time.Time) *activity { return &activity{now: now, lastEnd: now()} }

// add counts one more open request or connection, done one less. One that could be sent nowhere does
// not count as use: a scrape or a probe of the pod's own address can no longer be helped when the
// application has gone, and would keep the proxy to its deadline.
func (a *activity) add() {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.open++
}

func (a *activity) done(carried bool) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.open--
	if carried {
		a.lastEnd = a.now()
	}
}

// draining says that answers should ask clients to leave.
func (a *activity) draining() bool { return a.drainNow.Load() }

// quietFor returns how long nothing has been carried, and how much is open.
func (a *activity) quietFor() (time.Duration, int) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.open > 0 {
		return 0, a.open
	}
	return a.now().Sub(a.lastEnd), 0
}

// drain waits until nothing has been carried for the linger time or the deadline has come. As a native
// sidecar the proxy is told to stop when the application has gone: what still comes is passed to
// peers. It goes on accepting, because whoever still sends here has not heard yet that the pod is
// leaving and would be refused; /ready stays as it is for the same reason: readiness is not what
// takes a terminating pod out of Services, and an unready sidecar would only show as a failure. It
// returns how long what comes at the last moment may take.
func (p *Proxy) drain(ctx context.Context) (left time.Duration) {
	began := time.Now()
	p.activity.drainNow.Store(true)
	p.activity.add()
	p.activity.done(true) // The linger begins now at the earliest.
	p.log.Info("draining", "linger", p.options.DrainLinger, "deadline", p.options.DrainDeadline)
	deadline := time.NewTimer(p.options.DrainDeadline)
	defer deadline.Stop()
	tick := time.NewTicker(p.options.DrainLinger / 10)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return closeGrace
		case <-deadline.C:
			_, open := p.activity.quietFor()
			p.log.Warn("drain deadline reached", "open", open)
			return closeGrace
		case <-tick.C:
			if quiet, _ := p.activity.quietFor(); quiet >= p.options.DrainLinger {
				p.log.Info("drained")
				return max(closeGrace, p.options.DrainDeadline-time.Since(began))
			}
		}
	}
}
