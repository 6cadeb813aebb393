// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"slices"
	"sync"
	"time"
)

// sweepTime is how often unused links that are too old are closed.
const sweepTime = 250 * time.Millisecond

// linkKey is what links of one pool have in common. The identity is part of it, so that a link is
// never used for an address whose pod has been replaced by one of somebody else.
type linkKey struct{ address, identity string }

// idle is how long a link of a pool is kept without use.
func (k linkKey) idle() time.Duration {
	if k.identity != "" {
		return idleToPeer
	}
	return idleToApp
}

// linkPool holds the links that are not in use. The one that was used last is used first, so that
// those which are too many grow old.
type linkPool struct {
	mutex sync.Mutex
	links map[linkKey][]*link
	// waiting are those who take the next link that is put back, longest first.
	waiting map[linkKey][]chan *link
	closed  bool
}

func newLinkPool() *linkPool {
	return &linkPool{links: map[linkKey][]*link{}, waiting: map[linkKey][]chan *link{}}
}

// takeUnseen returns a link that was used before, or nil. It looks whether it has ended when it is first
// written to.
func (p *linkPool) takeUnseen(key linkKey, now time.Time) *link {
	for {
		l := p.pop(key)
		switch {
		case l == nil:
			return nil
		case now.After(l.expires):
			l.close()
		default:
			l.idle = l.raw != nil
			l.unseen = key.identity == "" || now.Sub(l.idleSince) >= freshTime
			return l
		}
	}
}

// take returns a link that was used before and is alive, or nil.
func (p *linkPool) take(key linkKey, now time.Time) *link {
	for {
		l := p.pop(key)
		if l == nil || l.alive(now) {
			return l
		}
		l.close()
	}
}

func (p *linkPool) pop(key linkKey) *link {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	links := p.links[key]
	if len(links) == 0 {
		return nil
	}
	last := links[len(links)-1]
	links[len(links)-1] = nil
	p.links[key] = links[:len(links)-1]
	return last
}

// put keeps a link for later.
func (p *linkPool) put(l *link, now time.Time) {
	l.exchange, l.idleSince = nil, now
	l.reader.FlushBeforeRead(nil)
	l.reader.Release()
	if !p.push(l) {
		l.close()
	}
}

func (p *linkPool) push(l *link) bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.closed {
		return false
	}
	if queue := p.waiting[l.key]; len(queue) > 0 {
		p.setWaiting(l.key, queue[1:])
		queue[0] <- l
		return true
	}
	if len(p.links[l.key]) >= idlePerEndpoint {
		return false
	}
	p.links[l.key] = append(p.links[l.key], l)
	return true
}

// await has the next link that is put back sent to a channel, which holds one.
func (p *linkPool) await(key linkKey) chan *link {
	freed := make(chan *link, 1)
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.setWaiting(key, append(p.waiting[key], freed))
	return freed
}

// stopAwaiting puts back what has come meanwhile.
func (p *linkPool) stopAwaiting(key linkKey, freed chan *link) {
	p.mutex.Lock()
	queue := p.waiting[key]
	if i := slices.Index(queue, freed); i >= 0 {
		p.setWaiting(key, slices.Delete(queue, i, i+1))
	}
	p.mutex.Unlock()
	select {
	case l := <-freed:
		if !p.push(l) {
			l.close()
		}
	default:
	}
}

// setWaiting is called with the mutex held.
func (p *linkPool) setWaiting(key linkKey, queue []chan *link) {
	if len(queue) == 0 {
		delete(p.waiting, key)
	} else {
		p.waiting[key] = queue
	}
}

// sweep closes what has not been used for too long, and returns the rest.
func (p *linkPool) sweep(now time.Time) {
	for _, l := range p.old(now) {
		l.close()
	}
}

func (p *linkPool) old(now time.Time) []*link {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	var old []*link
	for key, links := range p.links {
		young := 0 // The oldest come first.
		for young < len(links) && now.Sub(links[young].idleSince) >= key.idle() {
			young++
		}
		if young == len(links) {
			delete(p.links, key)
		} else if young > 0 {
			p.links[key] = append(links[:0:0], links[young:]...)
		}
		old = append(old, links[:young]...)
	}
	return old
}

// run sweeps until the context ends.
func (p *linkPool) run(ctx context.Context) { every(ctx, sweepTime, p.sweep) }

// close closes all links, and those that are put back from now on.
func (p *linkPool) close() {
	p.mutex.Lock()
	all := p.links
	p.links, p.closed = map[linkKey][]*link{}, true
	p.mutex.Unlock()
	for _, links := range all {
		for _, l := range links {
			l.close()
		}
	}
}
