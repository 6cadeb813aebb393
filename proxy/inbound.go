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
	// headerError names what a proxy answers in its own name.
	headerError = "sluice-error"
)

// serveInbound carries a connection that comes to the pod.
func (p *Proxy) serveInbound(ctx context.Context, conn net.Conn, destination netip.AddrPort) {
	protocol := p.config.Snapshot().Inbound.Protocols[destination.Port()]
	served := &servedConn{Conn: conn, info: connInfo{
		destination: destination, address: destination.String(), from: addressOf(conn),
	}}
	verdict, first, err := p.detectInbound(served, protocol)
	if err != nil {
		_ = conn.Close() // It was closed before it said anything.
		return
	}
	served.prefix = first
	if verdict == spokenTLS {
		offered, read, err := readHello(conn, first)
		served.prefix = read
		switch {
		case err != nil:
			_ = conn.Close() // As above.
			return
		case isMesh(offered):
			p.serveMeshed(ctx, served, offered)
			return
		case protocol == mesh.ProtocolHTTP1:
			verdict = spokenHTTP1 // It will be told that it is none.
		}
	}
	p.serveUnmeshed(ctx, served, verdict, protocol)
}

// detectInbound looks at what a client sends first.
func (p *Proxy) detectInbound(conn *servedConn, protocol mesh.Protocol) (spoken, []byte, error) {
	port := inboundPort(conn.info.destination.Port())
	switch {
	case protocol == mesh.ProtocolHTTP1:
		return sniffHTTP(conn, true, p.options.HeadTime)
	case protocol == mesh.ProtocolTCP:
		return sniff(conn, helloTime)
	case p.ports.isHTTP(port):
		return sniffHTTP(conn, false, p.options.HeadTime)
	case p.ports.isSilent(port):
		return sniff(conn, helloTime)
	}
	return sniff(conn, detectTime)
}

func inboundPort(port uint16) string { return ":" + strconv.Itoa(int(port)) }

// serveMeshed ends the mutual TLS of another proxy's connection.
func (p *Proxy) serveMeshed(ctx context.Context, conn *servedConn, offered []string) {
	if !p.clients.add(entering{conn}) {
		_ = conn.Close() // The proxy is at its end: the handshake fails, so the caller goes elsewhere.
		return
	}
	defer p.clients.remove(entering{conn})
	destination := conn.info.destination
	declared := p.config.Snapshot().Inbound.Protocols[destination.Port()] == mesh.ProtocolHTTP1
	var local net.Conn
	if !declared && slices.Contains(offered, mesh.ALPNTCP) && !slices.Contains(offered, mesh.ALPNHTTP2) {
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
	secured, client, protocol, err := p.acceptInTurn(ctx, conn)
	if err != nil {
		p.log.Info("refused a proxy", "error", err)
		if local != nil {
			_ = local.Close()
		}
		_ = conn.Close()
		return
	}
	if tracked, ok := conn.Conn.(*trackedConn); ok {
		tracked.isFrom(client)
	}
	info := conn.info
	info.client, info.labels = client, inboundLabels(destination.Port(), client)
	served := &servedConn{Conn: secured, info: info}
	served.series = p.metrics.tcp(tcpLabels{info.labels, peerSource})
	served.series.open()
	served.info.inRequests = protocol == mesh.ALPNHTTP1 || protocol == mesh.ALPNHTTP2
	if served.info.inRequests || declared {
		// From now on there is no hurry on this port: the first bytes of a starved proxy may be late.
		p.ports.sawHTTP(inboundPort(destination.Port()))
		p.serveMeshedHTTP(ctx, served, protocol)
		return
	}
	p.carryMeshed(served, local, protocol == mesh.ALPNHandoff && client == p.options.ID.String())
}

// carryMeshed carries another proxy's connection as bytes to the application. That of a peer of the own
// workload which has let the caller in is not judged again: who the caller is, only the peer knows.
func (p *Proxy) carryMeshed(served *servedConn, local net.Conn, handedOff bool) {
	if !handedOff {
		leave, ok := p.admitConn(served)
		if !ok {
			_ = local.Close() // Nothing has gone through it.
			return
		}
		defer leave()
	}
	p.activity.add()
	defer p.activity.done(true)
	p.watchHello(served, directionInbound)
	own := p.ownRevision()
	p.counts.add(own, openCount{connections: 1})
	defer p.counts.done(own, openCount{connections: 1})
	p.pipe(served, local, 0)
}

// serveMeshedHTTP carries requests that another proxy sends. Where HTTP is declared, whatever that took
// for bytes is read as requests as well: its application could else say that it is somebody else.
func (p *Proxy) serveMeshedHTTP(ctx context.Context, served *servedConn, protocol string) {
	verdict := spokenHTTP1
	switch protocol {
	case mesh.ALPNHTTP2:
		verdict = spokenHTTP2
	case mesh.ALPNTCP, mesh.ALPNHandoff:
		var err error
		if verdict, served.prefix, err = sniffHTTP(served, true, p.options.HeadTime); err != nil {
			_ = served.Close() // It was closed before it said anything.
			return
		}
	}
	if verdict == spokenHTTP2 {
		p.serveStreams(ctx, served, p.beginInboundStream, true)
		return
	}
	p.serveRequests(ctx, served, p.beginInbound)
}

func isMesh(offered []string) bool {
	return slices.Contains(offered, mesh.ALPNHTTP1) || slices.Contains(offered, mesh.ALPNHTTP2) || slices.Contains(offered, mesh.ALPNTCP)
}

// serveUnmeshed carries the connection of a caller without a proxy: nobody has applied the split.
func (p *Proxy) serveUnmeshed(ctx context.Context, conn *servedConn, verdict spoken, protocol mesh.Protocol) {
	destination := conn.info.destination
	conn.info.labels = inboundLabels(destination.Port(), "")
	conn.series = p.metrics.tcp(tcpLabels{conn.info.labels, peerSource})
	conn.series.open()
	conn.series.read(len(conn.prefix))
	port := inboundPort(destination.Port())
	switch {
	case verdict == spokenHTTP1 && protocol != mesh.ProtocolTCP:
		p.ports.sawHTTP(port)
		p.serveRequests(ctx, conn, p.beginInbound)
		return
	case verdict == spokenHTTP2 && protocol != mesh.ProtocolTCP:
		p.ports.sawHTTP(port)
		p.serveStreams(ctx, conn, p.beginInboundStream, false)
		return
	}
	leave, ok := p.admitConn(conn)
	if !ok {
		return
	}
	defer leave()
	var client net.Conn = conn
	place := placeAny
	switch {
	case verdict == spokenNothing:
		// Server-speaks-first, a probe, or a connection for later: nothing says that it may leave.
		client, place = p.silent(conn, port), placeOwn
	case p.config.Snapshot().Inbound.Split != nil:
		p.metrics.unsplit(destination.Port(), unsplitShared)
		p.counts.cameUnsplit()
		place = placeShared
	}
	p.watchHello(conn, directionInbound)
	side := &inboundSide{destination: destination, own: conn.info.address, where: place, labels: conn.info.labels}
	p.carryTCP(ctx, client, side, conn.info.labels, 0)
}

// place says where an inbound request may be served.
type place int

const (
	placeOwn    place = iota // By the own application only.
	placeAny                 // By a peer when the own application refuses.
	placeShared              // As the split says.
)

// inboundSide chooses between the own application and its peers.
type inboundSide struct {
	destination netip.AddrPort
	// own is the destination's text.
	own     string
	where   place
	request requestView
	labels  trafficLabels
	// http2 says that the port was declared to speak HTTP/2.
	http2 bool
	// slot is the claim that the own application needs.
	slot slot
}

// ways is pure: what is kept follows from the snapshot.
func (s *inboundSide) ways(snapshot *mesh.Snapshot, kept *routes, draw func() float64) route {
	inbound := &snapshot.Inbound
	s.http2 = slices.Contains(inbound.HTTP2Ports, s.destination.Port())
	drawn := mesh.RevisionWeight{PodTemplateHash: inbound.PodTemplateHash}
	chosen := route{split: inbound.Split != nil && s.where != placeOwn}
	if s.where == placeShared && inbound.Split != nil {
		drawn, chosen.cookie = drawRevision(inbound.Split, s.request, draw)
		chosen.mirror = mirrorOf(inbound.Split, inbound.Peers, s.request, drawn, draw)
	}
	chosen.drawn = revision{inbound.Workload, drawn.PodTemplateHash}
	key := routeKey{at: inbound, own: s.own, hash: drawn.PodTemplateHash, alone: s.where == placeOwn}
	chosen.tiers = kept.tiers(key, func() []tier { return inboundTiers(inbound, s.own, s.where, drawn) })
	return chosen
}

func (s *inboundSide) hopTo(endpoint *mesh.Endpoint) hop {
	if endpoint.Address != s.own {
		return peerHop(endpoint, s.destination.Port())
	}
	return hop{address: s.own, local: true, http2: s.http2, revision: revisionOf(endpoint), labels: s.labels, slot: s.slot}
}

func (s *inboundSide) fallback() (hop, bool) { return hop{}, false }

func (s *inboundSide) keep() side {
	kept := *s
	kept.request = requestView{} // It ends with the exchange.
	return &kept
}

// inboundTiers orders the own application and its peers for a revision.
func inboundTiers(inbound *mesh.Inbound, own string, where place, drawn mesh.RevisionWeight) []tier {
	self := mesh.Endpoint{
		Address:         own,
		Workload:        inbound.Workload,
		PodTemplateHash: inbound.PodTemplateHash,
		Ready:           true,
	}
	if where == placeOwn {
		return []tier{{endpoints: []*mesh.Endpoint{&self}}}
	}
	all := &mesh.Destination{Address: own, Endpoints: append([]mesh.Endpoint{self}, inbound.Peers...)}
	split := inbound.Split
	if split == nil {
		// Like a split that gives everything to the own revision.
		split = &mesh.Split{Workload: inbound.Workload}
	}
	// The own application before the peers of its revision: it is nearest.
	return preferred(splitTiers(all, all.Endpoints, split, drawn), own)
}

// beginInbound says where a request that has come to the pod may go.
func (p *Proxy) beginInbound(x *exchange) {
	info := &x.client.conn.info
	inbound, request := &p.config.Snapshot().Inbound, viewOf(&x.request, x.method(), x.targetText())
	head := marks{
		host: x.request.Host(), agent: x.request.Value("user-agent"),
		handoff: x.request.Value(headerHandoff), clientID: x.request.Value(headerClientID),
		mirrored: len(x.request.Value(headerMirrored)) > 0,
	}
	x.caller = p.callerOf(info, &head)
	if x.refusal = p.admit(info, inbound, x.caller, request, &head); x.refusal.code != "" {
		x.choose.begin(p, &x.inbound, info.labels, openCount{requests: 1}) // Ends what is left of the one before.
		return
	}
	from := p.originOf(info, inbound, &head)
	x.inbound = inboundSide{
		destination: info.destination, own: info.address, where: from.where, labels: from.labels,
		request: request, slot: p.slotFor(info, x.caller, request, &from),
	}
	x.choose.begin(p, &x.inbound, from.labels, openCount{requests: 1})
	x.peers = true
	x.skip, x.clientID, x.unmeshed = from.skip, from.clientID, from.unmeshed
}

// slotFor is the claim that a request needs on the own application.
func (p *Proxy) slotFor(info *connInfo, from mesh.Caller, request requestView, origin *origin) slot {
	asked := mesh.Asked{Port: info.destination.Port(), Method: request.method, Path: request.path}
	return p.overloads.slotFor(from, asked, origin.labels.routeName == routeMirror)
}

// marks are what a request's head says of where it has come from and whom it means.
type marks struct {
	host, agent []byte
	// handoff is where the caller of a request is that was passed on, clientID who that is.
	handoff, clientID []byte
	mirrored          bool
}

// origin is what is known of who has sent a request to the pod.
type origin struct {
	// where it may be served.
	where  place
	labels trafficLabels
	// skip are fields that the sender may not use; clientID is added unless it is empty.
	skip     http1.Kinds
	clientID string
	// unmeshed says that the client has come from outside the mesh.
	unmeshed bool
}

func (p *Proxy) originOf(info *connInfo, inbound *mesh.Inbound, head *marks) origin {
	handedOff := p.isHandedOff(info, head)
	copied := info.client != "" && head.mirrored
	from := origin{labels: info.labels, where: p.placeOf(head, info, inbound, handedOff || copied)}
	switch {
	case copied:
		from.labels.routeName = routeMirror
	case from.where == placeOwn && info.client == "":
		from.labels.routeName = routeProbe
	}
	switch {
	case handedOff: // The peer that passed it on has said who the client is.
		from.skip = http1.Of(http1.KindHandoff)
	case info.client == "":
		from.skip = http1.Owned
		from.unmeshed = true
	default:
		from.skip, from.clientID = http1.Of(http1.KindClientID, http1.KindHandoff), info.client
	}
	return from
}

// placeOf says where a request may be served. Probes and scrapes mean this pod: an answer of another
// would be a lie.
func (p *Proxy) placeOf(head *marks, info *connInfo, inbound *mesh.Inbound, meant bool) place {
	if meant { // By the peer that passed it on, or as a copy.
		return placeOwn
	}
	own := isHost(head.host, info.destination.Addr()) ||
		bytes.HasPrefix(head.agent, []byte(probeAgent)) ||
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
