// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/meshpb"
)

const (
	// firstAnswerTime is how long the first connection to an address waits for the control plane.
	firstAnswerTime = time.Second
	// unusedTime is after how long without use a destination is no longer subscribed to.
	unusedTime = 10 * time.Minute
)

// Config is the proxy's knowledge of where requests go: one immutable snapshot that is replaced
// whole. What was learned stays in force for as long as the control plane is away.
type Config struct {
	snapshot atomic.Pointer[mesh.Snapshot]
	// routes are those of the snapshot.
	routes atomic.Pointer[routes]
	// ejections are what endpoints are left out by; nil for none.
	ejections *ejections
	// routing is held for reading from the draw of a revision until what was drawn is counted as
	// open, and for writing when the snapshot is replaced. So the counts that are reported with a
	// version hold everything that an older version sent somewhere.
	routing sync.RWMutex

	mutex  sync.Mutex
	wanted map[string]*want
	// wantsChanged has one element when the wanted addresses have changed since it was received.
	wantsChanged chan struct{}
	connected    bool

	inboundOnce  sync.Once
	inboundKnown chan struct{}
	onApply      func(*mesh.Snapshot)
	now          func() time.Time
}

// want is an address that something here has dialled.
type want struct {
	since    time.Time
	lastUsed atomic.Int64 // Unix nanoseconds.
	answered chan struct{}
	once     sync.Once
}

func newConfig(now func() time.Time, onApply func(*mesh.Snapshot)) *Config {
	config := &Config{
		wanted:       map[string]*want{},
		wantsChanged: make(chan struct{}, 1),
		inboundKnown: make(chan struct{}),
		onApply:      onApply,
		now:          now,
	}
	// Until it is known who may call the pod nobody may. Nothing is lost by it: the proxy is not ready.
	config.snapshot.Store(&mesh.Snapshot{Inbound: mesh.Inbound{Access: &mesh.Access{Default: mesh.AccessDeny}}})
	config.routes.Store(newRoutes(mesh.Location{}))
	return config
}

// Snapshot returns what is in force now.
func (c *Config) Snapshot() *mesh.Snapshot { return c.snapshot.Load() }

// Destination returns what is known of an address, nil when nothing is. The first time it asks the
// control plane and waits a moment for the answer, if there is a control plane to ask.
func (c *Config) Destination(ctx context.Context, address string) *mesh.Destination {
	wanted, connected := c.want(address)
	if known := c.Snapshot().Destinations[address]; known != nil {
		return known
	}
	wait := firstAnswerTime - c.now().Sub(wanted.since)
	if !connected || wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-wanted.answered:
	case <-timer.C:
	case <-ctx.Done():
	}
	return c.Snapshot().Destinations[address]
}

func (c *Config) want(address string) (_ *want, connected bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	wanted, ok := c.wanted[address]
	if !ok {
		wanted = &want{since: c.now(), answered: make(chan struct{})}
		c.wanted[address] = wanted
		c.wakeStream()
	}
	wanted.lastUsed.Store(c.now().UnixNano())
	return wanted, c.connected
}

func (c *Config) wakeStream() {
	select {
	case c.wantsChanged <- struct{}{}:
	default:
	}
}

// wantedAddresses is what a stream must be subscribed to.
func (c *Config) wantedAddresses() map[string]bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	addresses := make(map[string]bool, len(c.wanted))
	for address := range c.wanted {
		addresses[address] = true
	}
	return addresses
}

func (c *Config) setConnected(connected bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.connected = connected
}

func (c *Config) isConnected() bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.connected
}

// apply puts a response in force. What it does not mention stays.
func (c *Config) apply(response *meshpb.WatchResponse) {
	c.mutex.Lock()
	next := *c.Snapshot()
	next.Version = response.GetVersion()
	if len(response.GetDestinations()) > 0 {
		next.Destinations = maps.Clone(next.Destinations)
		if next.Destinations == nil {
			next.Destinations = map[string]*mesh.Destination{}
		}
	}
	var answered []*want
	for _, received := range response.GetDestinations() {
		// An answer may cross with the end of the subscription.
		if wanted := c.wanted[received.GetAddress()]; wanted != nil {
			next.Destinations[received.GetAddress()] = received.ToMesh()
			answered = append(answered, wanted)
		}
	}
	if response.GetInbound() != nil {
		next.Inbound = *response.GetInbound().ToMesh()
	}
	c.publish(&next)
	c.mutex.Unlock()
	for _, wanted := range answered {
		wanted.once.Do(func() { close(wanted.answered) })
	}
	if response.GetInbound() != nil {
		c.inboundOnce.Do(func() { close(c.inboundKnown) })
	}
}

// publish replaces the snapshot once nobody is between a draw and its count.
func (c *Config) publish(next *mesh.Snapshot) {
	c.routing.Lock()
	c.snapshot.Store(next)
	kept := newRoutes(next.Inbound.Location)
	kept.ejections = c.ejections
	c.routes.Store(kept)
	c.routing.Unlock()
	if c.onApply != nil {
		c.onApply(next)
	}
}

// restore puts in force what an earlier run was told, until the control plane says more: its first
// response replaces all of it. What was in use then is subscribed to again.
func (c *Config) restore(saved *meshpb.WatchResponse) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	next := &mesh.Snapshot{Destinations: map[string]*mesh.Destination{}, Inbound: *saved.GetInbound().ToMesh()}
	for _, received := range saved.GetDestinations() {
		next.Destinations[received.GetAddress()] = received.ToMesh()
		wanted := &want{since: c.now(), answered: make(chan struct{})}
		wanted.lastUsed.Store(c.now().UnixNano())
		c.wanted[received.GetAddress()] = wanted
	}
	c.publish(next)
	c.inboundOnce.Do(func() { close(c.inboundKnown) })
}

// set puts a whole snapshot in force, without a control plane.
func (c *Config) set(snapshot *mesh.Snapshot) {
	c.publish(snapshot)
	c.inboundOnce.Do(func() { close(c.inboundKnown) })
}

// dropUnused forgets destinations that nothing has used for a while. While the control plane is
// away nothing is forgotten: it could not be learned again.
func (c *Config) dropUnused() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if !c.connected {
		return
	}
	limit := c.now().Add(-unusedTime).UnixNano()
	next := *c.Snapshot()
	next.Destinations = maps.Clone(next.Destinations)
	dropped := false
	for address, wanted := range c.wanted {
		if wanted.lastUsed.Load() < limit {
			delete(c.wanted, address)
			delete(next.Destinations, address)
			dropped = true
		}
	}
	if dropped {
		c.publish(&next)
		c.wakeStream()
	}
}
