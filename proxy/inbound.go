// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/http1"
)

const (
	// helloTime is how long first bytes are waited for on ports where the server speaks first. Only
	// a proxy sends something there, and it does so at once; if it is late all the same, its
	// handshake fails and it tries again or elsewhere.
	helloTime = 300 * time.Millisecond
	// probeAgent is how the User-Agent of the kubelet's probes begins.
	probeAgent = "kube-probe/"
)

// Fields that only the mesh may send.
const (
	headerClientID = "sluice-client-id"
	// headerHandoff marks a request that a proxy has passed to a peer of its own workload. It is
	// not passed on again.
	headerHandoff = "sluice-handoff"
)

// serveInbound carries a connection that comes to the pod.
func (p *Proxy) serveInbound(ctx context.Context, conn net.Conn, destination netip.AddrPort) {
	port := destination.Port()
	protocol := p.config.Snapshot().Inbound.Protocols[port]
	wait := detectTime
	switch {
	case protocol == mesh.ProtocolHTTP1, p.ports.isHTTP(inboundPort(port)):
		wait = 0
	case protocol == mesh.ProtocolTCP, p.ports.isSilent(inboundPort(port)):
		wait = helloTime
	}
	served := &servedConn{Conn: conn, info: connInfo{destination: destination}}
	verdict, first, err := sniff(served, wait)
	if err != nil {
		_ = conn.Close() // It was closed before it said anything.
		return
	}
	served.prefix = first
	if verdict == spokenTLS {
		offered, read, err := readHello(conn, first, detectTime)
		served.prefix = read
		switch {
		case err != nil:
			_ = conn.Close() // As above.
			return
		case slices.Contains(offered, mesh.ALPNHTTP1), slices.Contains(offered, mesh.ALPNTCP):
			p.serveMeshed(ctx, served, offered)
			return
		}
	}
	p.serveUnmeshed(ctx, served, verdict, protocol)
}

func inboundPort(port uint16) string { return ":" + strconv.Itoa(int(port)) }

// serveMeshed ends the mutual TLS of another proxy's connection.
func (p *Proxy) serveMeshed(ctx context.Context, conn *servedConn, offered []string) {
	destination := conn.info.destination
	var local net.Conn
	if slices.Contains(offered, mesh.ALPNTCP) {
		// The handshake waits for the application: if that refuses, the caller's proxy sees a
		// failed handshake and tries another endpoint, as it would without proxies.
		to := hop{address: destination.String(), labels: inboundLabels(destination.Port(), "")}
		var err error
		if local, err = p.upstreams.connect(ctx, to, mesh.ALPNTCP); err != nil {
			p.metrics.connectFailure(to.labels)
			reset(conn)
			return
		}
	}
	secured, client, protocol, err := acceptMesh(ctx, conn, p.serverTLS)
	if err != nil {
		p.log.Info("refused a proxy", "error", err)
		if local != nil {
			_ = local.Close()
		}
		_ = conn.Close()
		return
	}
	served := &servedConn{Conn: secured, info: connInfo{destination: destination, client: client}}
	served.series = p.metrics.tcp(tcpLabels{inboundLabels(destination.Port(), client), peerSource})
	served.series.open()
	if protocol == mesh.ALPNHTTP1 {
		// From now on there is no hurry on this port: the first bytes of a starved proxy may be late.
		p.ports.sawHTTP(inboundPort(destination.Port()))
		p.serveRequests(ctx, served, p.beginInbound)
		return
	}
	p.activity.add()
	defer p.activity.done()
	defer p.counts.connection(p.ownRevision())()
	p.pipe(served, served, local)
}

// serveUnmeshed carries the connection of a caller without a proxy: nobody has applied the split.
func (p *Proxy) serveUnmeshed(ctx context.Context, conn *servedConn, verdict spoken, protocol mesh.Protocol) {
	destination := conn.info.destination
	conn.series = p.metrics.tcp(tcpLabels{inboundLabels(destination.Port(), ""), peerSource})
	conn.series.open()
	port := inboundPort(destination.Port())
	var client net.Conn = conn
	place := placeAny
	switch {
	case verdict == spokenHTTP1 && protocol != mesh.ProtocolTCP:
		p.ports.sawHTTP(port)
		p.serveRequests(ctx, conn, p.beginInbound)
		return
	case verdict == spokenNothing:
		// Server-speaks-first, a probe, or a connection for later: nothing says that it may leave.
		client, place = p.silent(conn, port), placeOwn
	case p.config.Snapshot().Inbound.Split != nil:
		p.metrics.unsplit(destination.Port(), unsplitShared)
		p.counts.cameUnsplit()
		place = placeShared
	}
	p.carryTCP(ctx, client, p.inboundChooser(destination, inboundLabels(destination.Port(), ""), place, requestView{}))
}

// place says where an inbound request may be served.
type place int

const (
	placeOwn    place = iota // By the own application only.
	placeAny                 // By a peer when the own application refuses.
	placeShared              // As the split says.
)

// inboundChooser chooses between the own application and its peers.
func (p *Proxy) inboundChooser(destination netip.AddrPort, labels trafficLabels, where place, request requestView) *chooser {
	own := destination.String()
	choose := p.newChooser()
	choose.labels = labels
	choose.ways = func(snapshot *mesh.Snapshot, draw func() float64) route {
		return inboundRoute(&snapshot.Inbound, own, where, request, draw)
	}
	choose.hopTo = func(endpoint *mesh.Endpoint) hop {
		if endpoint.Address != own {
			return peerHop(endpoint, destination.Port())
		}
		return hop{
			address:  own,
			local:    true,
			revision: revisionOf(endpoint),
			labels:   labels,
		}
	}
	return choose
}

// inboundRoute is the route of a request that has come to the pod. It is pure.
func inboundRoute(inbound *mesh.Inbound, own string, where place, request requestView, draw func() float64) route {
	self := mesh.Endpoint{
		Address:         own,
		Workload:        inbound.Workload,
		PodTemplateHash: inbound.PodTemplateHash,
		Ready:           true,
	}
	if where == placeOwn {
		return route{drawn: revisionOf(&self), tiers: [][]*mesh.Endpoint{{&self}}}
	}
	all := &mesh.Destination{Address: own, Endpoints: append([]mesh.Endpoint{self}, inbound.Peers...)}
	split := inbound.Split
	if split == nil {
		// Like a split that gives everything to the own revision.
		split = &mesh.Split{Workload: inbound.Workload}
	}
	drawn := mesh.RevisionWeight{PodTemplateHash: inbound.PodTemplateHash}
	chosen := route{split: inbound.Split != nil}
	if where == placeShared && inbound.Split != nil {
		drawn, chosen.cookie = drawRevision(split, request, draw)
		chosen.mirror = mirrorOf(split, inbound.Peers, request, drawn, draw)
	}
	chosen.drawn = revision{inbound.Workload, drawn.PodTemplateHash}
	// The own application before the peers of its revision: it is nearest.
	chosen.tiers = preferred(splitTiers(all, all.Endpoints, split, drawn), own)
	return chosen
}

// beginInbound says where a request that has come to the pod may go.
func (p *Proxy) beginInbound(x *exchange) {
	info := x.client.conn.info
	inbound := &p.config.Snapshot().Inbound
	handedOff := info.client != "" && info.client == p.options.ID.String() && len(x.request.Value(headerHandoff)) > 0
	copied := info.client != "" && len(x.request.Value(headerMirrored)) > 0
	labels := inboundLabels(info.destination.Port(), info.client)
	where := p.placeOf(&x.request, info, inbound, handedOff || copied)
	switch {
	case copied:
		labels.routeName = routeMirror
	case where == placeOwn && info.client == "":
		labels.routeName = routeProbe
	}
	x.choose = p.inboundChooser(info.destination, labels, where, viewOf(&x.request, x.method(), x.targetText()))
	x.peers = true
	switch {
	case handedOff: // The peer that passed it on has said who the client is.
		x.skip = http1.Of(http1.KindHandoff)
	case info.client == "":
		x.skip = http1.Owned
		// A caller without a proxy keeps its connection to this pod until it is told to look again.
		x.leave = func() bool { return x.choose.attempts > 1 || withoutWeight(inbound) }
	default:
		x.skip, x.clientID = http1.Of(http1.KindClientID, http1.KindHandoff), info.client
	}
}

// placeOf says where a request may be served. Probes and scrapes mean this pod: an answer of another
// would be a lie.
func (p *Proxy) placeOf(request *http1.Request, info connInfo, inbound *mesh.Inbound, meant bool) place {
	if meant { // By the peer that passed it on, or as a copy.
		return placeOwn
	}
	own := isHost(string(request.Host()), info.destination.Addr()) ||
		bytes.HasPrefix(request.Value("user-agent"), []byte(probeAgent)) ||
		info.destination.Port() == mesh.PortAdmin
	switch {
	case own && info.client == "":
		if inbound.Split != nil {
			p.metrics.unsplit(info.destination.Port(), unsplitOwn)
		}
		return placeOwn
	case own:
		return placeOwn
	case info.client == "" && inbound.Split != nil:
		p.metrics.unsplit(info.destination.Port(), unsplitShared)
		p.counts.cameUnsplit()
		return placeShared
	}
	return placeAny
}

// withoutWeight says that a split gives the own revision nothing.
func withoutWeight(inbound *mesh.Inbound) bool {
	if inbound.Split == nil {
		return false
	}
	for _, listed := range inbound.Split.Revisions {
		if listed.PodTemplateHash == inbound.PodTemplateHash {
			return listed.Weight == 0
		}
	}
	return true
}
