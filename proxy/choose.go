// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"math/rand/v2"
	"net/netip"
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

// chooser gives one request, or one connection, the places to try, one after the other.
type chooser struct {
	proxy *Proxy
	// ways says where a snapshot sends this request.
	ways func(*mesh.Snapshot, func() float64) route
	// hopTo turns an endpoint into a hop.
	hopTo func(*mesh.Endpoint) hop
	// fallback is where to go when there are no ways at all.
	fallback func() (hop, bool)
	// labels are those of a request that no hop was found for.
	labels trafficLabels
	// connection says that a connection is claimed, not a request.
	connection bool

	// cookie and mirror are the route's when it was first chosen.
	cookie string
	mirror *mirrorRoute
	// shares are the chances of this request: of its workload, its revision and its copy. They are kept for its life, so that a snapshot that
	// comes between two attempts changes the revision only if its weights do.
	shares   [3]float64
	snapshot *mesh.Snapshot
	route    route
	tried    map[string]bool
	// doubtful are those of the tried that failed by chance, chances how often such were tried again.
	doubtful          []string
	chances, attempts int
	fellBack          bool
	// drawn is the revision for which the request counts.
	drawn revision
	split bool
	// drawnEmpty says that the revision drawn had no endpoint.
	drawnEmpty bool
}

func (p *Proxy) newChooser() *chooser {
	return &chooser{proxy: p, shares: [3]float64{rand.Float64(), rand.Float64(), rand.Float64()}, tried: map[string]bool{}}
}

// next draws and claims under one lock: see Config.routing.
func (c *chooser) next() (*hop, bool) {
	if c.attempts == attemptsMost {
		return nil, false
	}
	config := c.proxy.config
	config.routing.RLock()
	defer config.routing.RUnlock()
	c.look(config.Snapshot())
	endpoint := c.proxy.balancer.pick(c.route.tiers, c.tried, rand.Float64)
	if endpoint == nil && c.forgive() {
		endpoint = c.proxy.balancer.pick(c.route.tiers, c.tried, rand.Float64)
	}
	if endpoint == nil {
		return c.last()
	}
	c.attempts++
	to := c.hopTo(endpoint)
	to.key = endpoint.Address
	c.claim(&to)
	return &to, true
}

func (c *chooser) look(snapshot *mesh.Snapshot) {
	if snapshot == c.snapshot {
		return
	}
	nth := 0
	first := c.snapshot == nil
	c.snapshot = snapshot
	c.route = c.ways(snapshot, func() float64 {
		share := c.shares[nth%len(c.shares)]
		nth++
		return share
	})
	if first {
		c.drawn, c.split = c.route.drawn, c.route.split
		c.cookie, c.mirror = c.route.cookie, c.route.mirror
		c.drawnEmpty = c.split && len(c.route.tiers[0]) == 0
	}
}

// labelsOfFailure are the labels under which a request that got no answer counts: those of the
// revision that was drawn for it, wherever it was tried last.
func (c *chooser) labelsOfFailure(last *hop) trafficLabels {
	labels := c.labels
	if last != nil {
		labels = last.labels
	}
	if c.split && labels.direction == directionOutbound {
		return labelsForRevision(labels, c.drawn)
	}
	return labels
}

func (c *chooser) last() (*hop, bool) {
	if c.fallback == nil || c.attempts > 0 && !c.fellBack {
		return nil, false
	}
	to, ok := c.fallback()
	if !ok || c.tried[to.address] {
		return nil, false
	}
	c.fellBack = true
	c.attempts++
	to.key = to.address
	c.claim(&to)
	return &to, true
}

func (c *chooser) claim(to *hop) {
	releaseLoad := c.proxy.balancer.claim(to.key)
	count := c.proxy.counts.request
	if c.connection {
		count = c.proxy.counts.connection
	}
	releaseCount := count(to.revision)
	to.release = func() {
		releaseLoad()
		releaseCount()
	}
}

// forgive gives the endpoints that failed by chance another one.
func (c *chooser) forgive() bool {
	if len(c.doubtful) == 0 || c.chances == secondChances {
		return false
	}
	c.chances++
	for _, key := range c.doubtful {
		delete(c.tried, key)
	}
	c.doubtful = c.doubtful[:0]
	return true
}

// failed remembers that a hop could not be connected to.
func (c *chooser) failed(to *hop, err *connectError) {
	c.tried[to.key] = true
	if err.chance {
		c.doubtful = append(c.doubtful, to.key)
	}
	if err.timedOut() {
		c.proxy.balancer.suspect(to.key)
	}
	c.proxy.metrics.connectFailure(to.labels)
	to.release()
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
