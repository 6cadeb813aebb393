// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-mesh/sluice/mesh"
)

const (
	// attemptsMost is how often one request or connection tries to connect.
	attemptsMost = 6
	// secondChances is how often endpoints that failed by chance are tried again when there are no
	// others: a workload may have but one.
	secondChances = 2
)

// side is what the two sides of the proxy know of where a request or a connection may go.
type side interface {
	// ways says where a snapshot sends it.
	ways(snapshot *mesh.Snapshot, routes *routes, draw func() float64) route
	// hopTo turns an endpoint into a hop.
	hopTo(endpoint *mesh.Endpoint) hop
	// fallback is where to go when there are no ways at all.
	fallback() (hop, bool)
	// keep returns a copy for later, when this one may be used for something else.
	keep() side
}

// chooser gives one request, or one connection, the places to try, one after the other. It may be
// used again for another.
type chooser struct {
	proxy *Proxy
	side  side
	// labels are those of a request that no hop was found for.
	labels trafficLabels
	// opened is what is claimed: a request or a connection.
	opened openCount

	// cookie and mirror are the route's when it was first chosen.
	cookie string
	mirror *mirrorRoute
	// shares are the chances of this request: of its workload, its revision and its copy. They are kept
	// for its life, so that a snapshot that comes between two attempts changes the revision only if its
	// weights do.
	shares [3]float64
	// nth is the share that is drawn next, draw draws it.
	nth      int
	draw     func() float64
	snapshot *mesh.Snapshot
	route    route
	tried    tries
	// doubtful are those of the tried that failed by chance, chances how often such were tried again.
	doubtful          []string
	chances, attempts int
	fellBack          bool
	// busy says that the last try was not begun, as too many others were.
	busy bool
	// shed says that the own application has as much open as it may.
	shed bool
	// only says that nothing but the revision within will do.
	only   bool
	within revision
	// hops are the one at hand and the one before.
	hops [2]hop
	// drawn is the revision for which the request counts.
	drawn revision
	split bool
	// drawnEmpty says that the revision drawn had no endpoint, drawnGoing that all it had were on their
	// way out.
	drawnEmpty, drawnGoing bool
}

// begin makes ready for a request or a connection.
func (c *chooser) begin(p *Proxy, from side, labels trafficLabels, opened openCount) {
	draw, tried, doubtful := c.draw, c.tried, c.doubtful[:0]
	clear(tried.failed)
	if draw == nil {
		draw = c.share
	}
	*c = chooser{
		proxy: p, side: from, labels: labels, opened: opened, draw: draw, tried: tried, doubtful: doubtful,
		shares: [3]float64{rand.Float64(), rand.Float64(), rand.Float64()},
	}
}

func (c *chooser) share() float64 {
	share := c.shares[c.nth%len(c.shares)]
	c.nth++
	return share
}

// next draws and claims under one lock: see Config.routing.
func (c *chooser) next() (*hop, bool) {
	c.tried.full = nil
	if c.attempts == attemptsMost {
		return nil, false
	}
	config := c.proxy.config
	config.routing.RLock()
	defer config.routing.RUnlock()
	c.look(config.Snapshot())
	for {
		endpoint := c.pick()
		if endpoint == nil {
			return c.last()
		}
		to := c.side.hopTo(endpoint)
		if !to.slot.enter() {
			c.shed = true // No other stands in: they would be overloaded next.
			c.endProbe(endpoint)
			return nil, false
		}
		if claimed := c.proxy.balancer.claim(endpoint.Address, c.route.most); claimed != nil {
			taken := c.take(to, endpoint.Address, claimed)
			if c.route.ejection != nil {
				taken.conduct = conductOf(c.route.tiers, endpoint)
			}
			return taken, true
		}
		to.slot.leave()
		c.endProbe(endpoint) // Somebody else was a little faster.
	}
}

// endProbe lets others try a suspect.
func (c *chooser) endProbe(endpoint *mesh.Endpoint) {
	if c.tried.probes {
		c.proxy.balancer.of(endpoint.Address).probed.Store(false)
	}
}

func (c *chooser) pick() *mesh.Endpoint {
	if policy := c.route.ejection; policy != nil && !c.route.split {
		c.tried.now = c.proxy.options.Now()
		c.tried.heeds = c.proxy.ejections.look(c.tried.now, c.route.tiers, policy)
	}
	tiers := c.route.tiers
	if c.only {
		tiers = tiersWithin(tiers, c.within)
	}
	endpoint := c.proxy.balancer.pick(tiers, &c.tried, rand.Float64)
	if endpoint == nil && c.tried.full == nil && c.forgive() {
		endpoint = c.proxy.balancer.pick(tiers, &c.tried, rand.Float64)
	}
	return endpoint
}

func (c *chooser) look(snapshot *mesh.Snapshot) {
	if snapshot == c.snapshot {
		return
	}
	first := c.snapshot == nil
	c.snapshot, c.nth = snapshot, 0
	c.route = c.side.ways(snapshot, c.proxy.config.routes.Load(), c.draw)
	c.tried.judged, c.tried.most, c.tried.heeds = c.route.split, c.route.most, false
	if first {
		c.drawn, c.split = c.route.drawn, c.route.split
		c.cookie, c.mirror = c.route.cookie, c.route.mirror
		c.drawnEmpty = c.split && len(c.route.tiers[0].endpoints) == 0
		c.drawnGoing = c.drawnEmpty && slices.ContainsFunc(c.route.tiers, c.isDrawn)
	}
}

// isDrawn: a tier, which has one revision's endpoints, has those of the one that was drawn.
func (c *chooser) isDrawn(of tier) bool {
	return len(of.endpoints) > 0 && revisionOf(of.endpoints[0]) == c.drawn
}

// labelsOfFailure are the labels under which a request that got no answer counts: those of the
// revision that was drawn for it, wherever it was tried last. What came to this pod and was drawn for
// another revision is no failure of this one, which the gate would hold against it.
func (c *chooser) labelsOfFailure(last *hop) trafficLabels {
	labels := c.labels
	switch {
	case last != nil:
		labels = last.labels
	case c.tried.full != nil:
		labels = c.side.hopTo(c.tried.full).labels
	}
	if c.split && (labels.direction == directionOutbound || c.drawn != c.proxy.ownRevision()) {
		return labelsForRevision(labels, c.drawn)
	}
	return labels
}

func (c *chooser) last() (*hop, bool) {
	if c.attempts > 0 && !c.fellBack || c.tried.full != nil {
		return nil, false
	}
	to, ok := c.side.fallback()
	if !ok || c.tried.failed[to.address] {
		return nil, false
	}
	c.fellBack = true
	return c.take(to, to.address, c.proxy.balancer.claim(to.address, 0)), true
}

// take counts one more attempt, which is open on its hop until that is released.
func (c *chooser) take(to hop, key string, claim *load) *hop {
	claimed := &c.hops[c.attempts%len(c.hops)]
	c.attempts++
	*claimed = to
	claimed.key, claimed.opened, claimed.counts = key, c.opened, c.proxy.counts
	claimed.probes, c.tried.probes = c.tried.probes, false
	claimed.load = claim
	claimed.counts.add(to.revision, c.opened)
	return claimed
}

// forgive gives the endpoints that failed by chance another one.
func (c *chooser) forgive() bool {
	if len(c.doubtful) == 0 || c.chances == secondChances {
		return false
	}
	c.chances++
	for _, key := range c.doubtful {
		delete(c.tried.failed, key)
	}
	c.doubtful = c.doubtful[:0]
	return true
}

// failed remembers that a hop could not be connected to.
func (c *chooser) failed(to *hop, err *connectError) {
	c.tried.add(to.key)
	if err.chance {
		c.doubtful = append(c.doubtful, to.key)
	}
	if err.timedOut() {
		c.proxy.balancer.timedOut(to.key)
	}
	if c.busy = errors.Is(err, errDialsBusy); !c.busy {
		to.lost(c.proxy.options.Now())
	}
	c.proxy.metrics.connectFailure(to.labels)
	to.release()
}

// failure is the code of a request that could be sent nowhere.
func (c *chooser) failure() string {
	switch {
	case c.shed:
		return errorShed
	case c.tried.full != nil:
		return errorCircuitOpen
	case c.busy:
		return errorOverload
	}
	return errorConnect
}

// retryAfter is in how many seconds a client may ask again; 0 when that is not known.
func (c *chooser) retryAfter() int64 {
	if c.shed {
		return shedRetryAfter
	}
	return 0
}

// failureText is what a client is told of it.
func (c *chooser) failureText() string {
	if c.shed {
		return "the application has as many requests open as its TrafficPolicy allows for this priority"
	}
	if c.tried.full != nil {
		return "each endpoint has as many requests open as its TrafficPolicy allows"
	}
	return "no endpoint could be connected to"
}

// outboundHop is an endpoint as the outbound side reaches it.
func (p *Proxy) outboundHop(endpoint *mesh.Endpoint, service mesh.Service) hop {
	to := hop{
		address:  endpoint.Address,
		identity: endpoint.Identity,
		revision: revisionOf(endpoint),
		labels:   outboundLabels(endpoint, service),
	}
	// What a pod sends to itself never leaves it, so no redirect brings it to the inbound side.
	if address, err := netip.ParseAddrPort(endpoint.Address); err == nil && p.isOwn(address.Addr()) {
		to.identity, to.local = "", true
		to.labels.tls = tlsNone
	}
	return to
}

// peerHop is another pod of the own workload, at the port that the request came to.
func peerHop(endpoint *mesh.Endpoint, port uint16) hop {
	address := endpoint.Address
	if parsed, err := netip.ParseAddrPort(address); err == nil {
		address = netip.AddrPortFrom(parsed.Addr(), port).String()
	}
	return hop{
		address:  address,
		identity: endpoint.Identity,
		revision: revisionOf(endpoint),
		labels:   outboundLabels(endpoint, mesh.Service{}),
		handoff:  true,
	}
}

func (p *Proxy) isOwn(address netip.Addr) bool {
	return p.options.PodIP.IsValid() && address.Unmap() == p.options.PodIP.Unmap()
}

func outboundLabels(endpoint *mesh.Endpoint, service mesh.Service) trafficLabels {
	labels := trafficLabels{
		direction:    directionOutbound,
		tls:          tlsNone,
		dstNamespace: endpoint.Namespace,
		dstHash:      endpoint.PodTemplateHash,
		dstService:   service.Name,
	}
	if endpoint.Identity != "" {
		labels.tls = tlsTrue
	}
	if namespace, name, ok := strings.Cut(endpoint.Workload, "/"); ok {
		labels.dstNamespace, labels.dstDeployment = namespace, name
	}
	return labels
}

func inboundLabels(port uint16, client string) trafficLabels {
	labels := trafficLabels{direction: directionInbound, tls: tlsNone, targetPort: strconv.Itoa(int(port))}
	if client != "" {
		labels.tls = tlsTrue
	}
	return labels
}

// labelsForRevision are the labels under which a request counts for a revision that did not serve it.
func labelsForRevision(served trafficLabels, drawn revision) trafficLabels {
	served.direction, served.targetPort = directionOutbound, ""
	served.dstHash = drawn.hash
	if namespace, name, ok := strings.Cut(drawn.workload, "/"); ok {
		served.dstNamespace, served.dstDeployment = namespace, name
	}
	return served
}
