// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/http2"
)

const (
	// idleTrunk is how long a connection that carries no request is kept.
	idleTrunk = 10 * time.Second
	// trunkStreams is how many requests share one: more would wait behind each other's frames.
	trunkStreams = 100
	// silence is after how long another proxy that says nothing, while it is asked something, is
	// asked whether it is there; twice as long after that it is not. Applications are not asked: gRPC
	// servers take that for an attack, and are in the same pod or seen by TCP.
	silence = 10 * time.Second
)

// trunk is a connection of HTTP/2 to an application or another proxy, which carries the requests of
// many clients.
type trunk struct {
	key     linkKey
	conn    *http2.Conn
	expires time.Time
	asked   time.Time
}

func keyOf(to *hop) linkKey { return linkKey{to.address, to.identity} }

// trunkPool holds the trunks to each endpoint.
type trunkPool struct {
	connect func(ctx context.Context, to hop, protocols ...string) (*upstreamConn, error)
	refused func(http2.MalformedError)
	serving *sync.WaitGroup
	// dialing ends with the proxy.
	dialing context.Context
	stop    context.CancelFunc

	mutex  sync.Mutex
	trunks map[linkKey][]*trunk
	dials  map[linkKey]*trunkDial
	// old says since when endpoints are known to speak only HTTP/1.1.
	old    map[linkKey]time.Time
	closed bool
}

// trunkDial is a trunk that is being made; done is closed when it is.
type trunkDial struct {
	done chan struct{}
	err  error
}

func newTrunkPool(p *Proxy) *trunkPool {
	pool := &trunkPool{
		connect: p.upstreams.connect,
		refused: func(why http2.MalformedError) { p.metrics.malformed(string(why), outcomeRefused) },
		serving: &p.serving,
		trunks:  map[linkKey][]*trunk{},
		dials:   map[linkKey]*trunkDial{},
		old:     map[linkKey]time.Time{},
	}
	pool.dialing, pool.stop = context.WithCancel(context.Background())
	return pool
}

// ready returns a trunk with room for another request, nil when there is none.
func (p *trunkPool) ready(key linkKey) *trunk {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.readyLocked(key)
}

func (p *trunkPool) readyLocked(key linkKey) *trunk {
	for _, t := range p.trunks[key] {
		if t.conn.Room() {
			return t
		}
	}
	return nil
}

// forget forgets that an endpoint speaks only HTTP/1.1.
func (p *trunkPool) forget(key linkKey) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	delete(p.old, key)
}

// take returns a trunk with room, and makes one when there is none. It returns errOnlyHTTP1 when none
// can be.
func (p *trunkPool) take(ctx context.Context, to *hop) (*trunk, error) {
	key := keyOf(to)
	for {
		t, dial, err := p.readyOrDial(key, *to)
		if t != nil || err != nil {
			return t, err
		}
		select {
		case <-dial.done:
			if dial.err != nil {
				return nil, dial.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// readyOrDial joins those who wait for a trunk: one is made at a time.
func (p *trunkPool) readyOrDial(key linkKey, to hop) (*trunk, *trunkDial, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if t := p.readyLocked(key); t != nil {
		return t, nil, nil
	}
	if _, ok := p.old[key]; ok {
		return nil, nil, errOnlyHTTP1
	}
	if dial := p.dials[key]; dial != nil {
		return nil, dial, nil
	}
	dial := &trunkDial{done: make(chan struct{})}
	p.dials[key] = dial
	p.serving.Go(func() { p.dial(key, to, dial) })
	return nil, dial, nil
}

func (p *trunkPool) dial(key linkKey, to hop, dial *trunkDial) {
	made, ended, err := p.open(key, to)
	p.mutex.Lock()
	delete(p.dials, key)
	if made != nil && p.closed {
		made.conn.Close()
		made, err = nil, &connectError{to.address, http2.ErrGone, false}
	}
	if made != nil {
		p.trunks[key] = append(p.trunks[key], made)
	}
	if errors.Is(err, errOnlyHTTP1) {
		p.old[key] = time.Now()
	}
	dial.err = err
	close(dial.done)
	p.mutex.Unlock()
	if made != nil {
		<-ended
		p.remove(made)
	}
}

// open makes a trunk, and returns what is closed when it has ended.
func (p *trunkPool) open(key linkKey, to hop) (*trunk, <-chan struct{}, error) {
	// A proxy that does not know HTTP/2 yet carries it as bytes.
	conn, err := p.connect(p.dialing, to, mesh.ALPNHTTP2, mesh.ALPNTCP)
	if refusesProtocols(err) {
		return nil, nil, errOnlyHTTP1
	}
	if err != nil {
		return nil, nil, err
	}
	greeted := newGreetedConn(conn)
	made := &trunk{key: key, expires: time.Now().Add(linkAge - linkAgeSpread + rand.N(2*linkAgeSpread))}
	// What an application answers with is its own decision.
	limits := http2.Limits{MaxHead: answerHeadMost, MaxStreams: trunkStreams, IdleFrames: trustedResets}
	made.conn = http2.NewClient(greeted, http2.Options{Limits: limits, Refused: p.refused})
	ended := make(chan struct{})
	p.serving.Go(func() {
		defer close(ended)
		made.conn.Serve()
	})
	if conn.protocol() == mesh.ALPNHTTP2 {
		return made, ended, nil
	}
	select {
	case <-greeted.heard:
	case <-ended:
	case <-p.dialing.Done():
		made.conn.Close()
	}
	if greeted.speaksHTTP2() {
		return made, ended, nil
	}
	<-ended
	if greeted.old {
		return nil, nil, errOnlyHTTP1
	}
	err = cmp.Or(greeted.silence, http2.ErrGone)
	return nil, nil, &connectError{to.address, err, isChance(err)}
}

func (p *trunkPool) remove(gone *trunk) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	left := slices.DeleteFunc(p.trunks[gone.key], func(t *trunk) bool { return t == gone })
	if len(left) == 0 {
		delete(p.trunks, gone.key)
	} else {
		p.trunks[gone.key] = left
	}
}

// sweep ends trunks that are unused or too old when what is open on them has ended, and those to
// proxies that do not answer.
func (p *trunkPool) sweep(now time.Time) {
	p.relearn(now)
	for _, t := range p.all() {
		idle := t.conn.Idle()
		quiet := now.Sub(t.conn.LastRead())
		switch {
		case now.After(t.expires), !idle.IsZero() && now.Sub(idle) > idleTrunk:
			t.conn.Shutdown()
		case t.key.identity == "" || !idle.IsZero() || quiet < silence:
		case quiet > 3*silence:
			t.conn.Close()
		case now.Sub(t.asked) > silence/2:
			t.asked = now
			t.conn.Ping()
		}
	}
}

// relearn forgets what was learned too long ago.
func (p *trunkPool) relearn(now time.Time) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	maps.DeleteFunc(p.old, func(_ linkKey, since time.Time) bool { return now.Sub(since) > relearnTime })
}

func (p *trunkPool) all() []*trunk {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	var all []*trunk
	for _, trunks := range p.trunks {
		all = append(all, trunks...)
	}
	return all
}

// run sweeps until the context ends.
func (p *trunkPool) run(ctx context.Context) { every(ctx, time.Second, p.sweep) }

// close ends all trunks, and keeps none from now on.
func (p *trunkPool) close() {
	p.mutex.Lock()
	p.closed = true
	p.mutex.Unlock()
	p.stop()
	for _, t := range p.all() {
		t.conn.Close()
	}
}
