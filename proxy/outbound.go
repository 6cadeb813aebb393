// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/http1"
)

// serveOutbound carries a connection that the application has made.
func (p *Proxy) serveOutbound(ctx context.Context, conn net.Conn, destination netip.AddrPort) {
	address := destination.String()
	known := p.config.Destination(ctx, address)
	served := &servedConn{Conn: conn, info: connInfo{destination: destination, address: address}}
	served.series = p.metrics.tcp(tcpLabels{outboundUnknown(), peerSource})
	served.series.open()
	if known == nil || known.Unknown {
		p.watchHello(served, directionOutbound)
		p.carryOutbound(ctx, served, served.info)
		return
	}
	var verdict spoken
	switch known.Protocol {
	case mesh.ProtocolTCP:
		verdict = spokenOther
	default:
		verdict = p.detect(served, address, known.Protocol == mesh.ProtocolHTTP1)
	}
	switch verdict {
	case spokenHTTP1:
		p.serveRequests(ctx, served, p.beginOutbound)
	case spokenHTTP2:
		p.serveStreams(ctx, served, p.beginOutboundStream, true)
	case spokenNothing:
		p.watchHello(served, directionOutbound)
		p.carryOutbound(ctx, p.silent(served, address), served.info)
	default:
		p.watchHello(served, directionOutbound)
		p.carryOutbound(ctx, served, served.info)
	}
}

// detect looks at what a client sends first. When a port is known to be HTTP there is no hurry.
func (p *Proxy) detect(served *servedConn, port string, declared bool) spoken {
	var verdict spoken
	var err error
	switch {
	case declared, p.ports.isHTTP(port):
		verdict, served.prefix, err = sniffHTTP(served, declared, p.options.HeadTime)
	case p.ports.isSilent(port):
		return spokenOther
	default:
		verdict, served.prefix, err = sniff(served, detectTime)
	}
	switch {
	case err != nil:
		return spokenNothing
	case declared && verdict == spokenTLS:
		return spokenHTTP1 // It will be told that it is none.
	case verdict == spokenHTTP1 || verdict == spokenHTTP2:
		p.ports.sawHTTP(port)
	}
	return verdict
}

// outboundSide chooses among the endpoints of an address.
type outboundSide struct {
	proxy       *Proxy
	destination netip.AddrPort
	// address is the destination's text.
	address string
	// meant says that a request names this very address as its host.
	meant   bool
	request requestView
	service mesh.Service
	// http2 says that the port was declared to speak HTTP/2.
	http2 bool
	// known says that there are endpoints, be it only such that may not be used.
	known bool
}

func (s *outboundSide) ways(snapshot *mesh.Snapshot, kept *routes, draw func() float64) route {
	destination := snapshot.Destinations[s.address]
	if destination == nil || destination.Unknown {
		return route{}
	}
	s.service, s.known, s.http2 = destination.Service, len(destination.Endpoints) > 0, destination.HTTP2
	if destination.PodAddress && s.meant {
		return withoutSplit(kept, destination) // A scrape, which knows better.
	}
	chosen := chooseRoute(kept, destination, s.request, draw)
	chosen.most, chosen.ejection = destination.MaxParallelRequests, destination.OutlierEjection
	return chosen
}

func (s *outboundSide) hopTo(endpoint *mesh.Endpoint) hop {
	to := s.proxy.outboundHop(endpoint, s.service)
	to.http2 = s.http2 && to.identity == ""
	return to
}

func (s *outboundSide) fallback() (hop, bool) {
	return hop{address: s.address, labels: trafficLabels{
		direction:    directionOutbound,
		tls:          tlsNone,
		dstNamespace: s.service.Namespace,
		dstService:   s.service.Name,
	}}, !s.known
}

func (s *outboundSide) keep() side {
	kept := *s
	kept.request = requestView{} // It ends with the exchange.
	return &kept
}

// carryOutbound carries a connection of the application as bytes.
func (p *Proxy) carryOutbound(ctx context.Context, conn net.Conn, info connInfo) {
	side := &outboundSide{proxy: p, destination: info.destination, address: info.address}
	var idle uint32
	if known := p.config.Snapshot().Destinations[info.address]; known != nil {
		idle = known.Timeouts.Idle
	}
	p.carryTCP(ctx, conn, side, outboundUnknown(), idle)
}

// outboundUnknown are the labels of what no hop was found for.
func outboundUnknown() trafficLabels {
	return trafficLabels{direction: directionOutbound, tls: tlsNone}
}

// beginOutbound says where a request of the application may go.
func (p *Proxy) beginOutbound(x *exchange) {
	info := &x.client.conn.info
	if known := p.config.Destination(x.context, info.address); known != nil { // Asking keeps it subscribed.
		x.limit(known.Timeouts)
		x.retries = p.retriesOf(known)
	}
	x.outbound = outboundSide{
		proxy: p, destination: info.destination, address: info.address,
		meant:   isHost(x.request.Host(), info.destination.Addr()),
		request: viewOf(&x.request, x.method(), x.targetText()),
	}
	x.choose.begin(p, &x.outbound, outboundUnknown(), openCount{requests: 1})
	x.skip = http1.Owned
}

// isHost says whether a Host, which is well formed, is an address itself, with or without a port.
func isHost(host []byte, address netip.Addr) bool {
	switch {
	case len(host) == 0:
		return false
	case host[0] == '[':
		return isHost6(string(host), address)
	}
	var room [64]byte
	port, found := bytes.CutPrefix(host, address.Unmap().AppendTo(room[:0]))
	return found && (len(port) == 0 || port[0] == ':')
}

func isHost6(host string, address netip.Addr) bool {
	if parsed, err := netip.ParseAddrPort(host); err == nil {
		return parsed.Addr().Unmap() == address.Unmap()
	}
	parsed, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && parsed.Unmap() == address.Unmap()
}
