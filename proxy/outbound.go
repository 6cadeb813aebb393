// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"net"
	"net/netip"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/http1"
)

// serveOutbound carries a connection that the application has made.
func (p *Proxy) serveOutbound(ctx context.Context, conn net.Conn, destination netip.AddrPort) {
	address := destination.String()
	known := p.config.Destination(ctx, address)
	served := &servedConn{Conn: conn, info: connInfo{destination: destination}}
	served.series = p.metrics.tcp(tcpLabels{trafficLabels{direction: directionOutbound, tls: tlsNone}, peerSource})
	served.series.open()
	if known == nil || known.Unknown {
		p.carryTCP(ctx, served, p.outboundChooser(destination, "", requestView{}))
		return
	}
	var verdict spoken
	switch known.Protocol {
	case mesh.ProtocolTCP:
		verdict = spokenOther
	default:
		verdict = p.detect(served, address, known.Protocol)
	}
	switch verdict {
	case spokenHTTP1:
		p.serveRequests(ctx, served, p.beginOutbound)
	case spokenNothing:
		p.carryTCP(ctx, p.silent(served, address), p.outboundChooser(destination, "", requestView{}))
	default:
		p.carryTCP(ctx, served, p.outboundChooser(destination, "", requestView{}))
	}
}

// detect looks at what a client sends first. When a port is known to be HTTP there is no hurry.
func (p *Proxy) detect(served *servedConn, port string, protocol mesh.Protocol) spoken {
	wait := detectTime
	switch {
	case protocol == mesh.ProtocolHTTP1, p.ports.isHTTP(port):
		// Clients open connections for later: a port that speaks HTTP keeps speaking it.
		wait = 0
	case p.ports.isSilent(port):
		return spokenOther
	}
	verdict, first, err := sniff(served, wait)
	served.prefix = first
	if err != nil {
		return spokenNothing
	}
	if verdict == spokenHTTP1 {
		p.ports.sawHTTP(port)
	}
	return verdict
}

// outboundChooser chooses among the endpoints of an address. The host and the view are those of an
// HTTP request, and empty for a connection.
func (p *Proxy) outboundChooser(destination netip.AddrPort, host string, request requestView) *chooser {
	address := destination.String()
	choose := p.newChooser()
	choose.labels = trafficLabels{direction: directionOutbound, tls: tlsNone}
	var service mesh.Service
	// kept says that there are endpoints, be it only such that may not be used.
	kept := false
	choose.ways = func(snapshot *mesh.Snapshot, draw func() float64) route {
		known := snapshot.Destinations[address]
		if known == nil || known.Unknown {
			return route{}
		}
		service, kept = known.Service, len(known.Endpoints) > 0
		if known.PodAddress && isHost(host, destination.Addr()) {
			return withoutSplit(known)
		}
		return chooseRoute(known, request, draw)
	}
	choose.hopTo = func(endpoint *mesh.Endpoint) hop { return p.outboundHop(endpoint, service) }
	choose.fallback = func() (hop, bool) {
		return hop{address: address, labels: trafficLabels{
			direction:    directionOutbound,
			tls:          tlsNone,
			dstNamespace: service.Namespace,
			dstService:   service.Name,
		}}, !kept
	}
	return choose
}

// beginOutbound says where a request of the application may go.
func (p *Proxy) beginOutbound(x *exchange) {
	destination := x.client.conn.info.destination
	p.config.Destination(x.context, destination.String()) // Keeps it subscribed.
	x.choose = p.outboundChooser(destination, string(x.request.Host()), viewOf(&x.request, x.method(), x.targetText()))
	x.skip = http1.Owned
}

// isHost says whether a Host is an address itself, with or without a port.
func isHost(host string, address netip.Addr) bool {
	if parsed, err := netip.ParseAddrPort(host); err == nil {
		return parsed.Addr().Unmap() == address.Unmap()
	}
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	parsed, err := netip.ParseAddr(host)
	return err == nil && parsed.Unmap() == address.Unmap()
}
