// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"strings"

	"github.com/sluice-mesh/sluice/proxy/http1"
	"github.com/sluice-mesh/sluice/proxy/http2"
)

// beginOutboundStream says where a request of the application may go.
func (p *Proxy) beginOutboundStream(x *stream) {
	info := &x.client.conn.info
	if known := p.config.Destination(x.context, info.address); known != nil { // Asking keeps it subscribed.
		x.limits.begin(known.Timeouts, x.received)
		x.retries = p.retriesOf(known)
	}
	x.outbound = outboundSide{
		proxy: p, destination: info.destination, address: info.address,
		meant:   isHost([]byte(x.head.Authority), info.destination.Addr()),
		request: viewOfStream(x.head),
	}
	x.choose.begin(p, &x.outbound, outboundUnknown(), openCount{requests: 1})
	x.origin.skip = http1.Owned
}

// beginInboundStream says where a request that has come to the pod may go.
func (p *Proxy) beginInboundStream(x *stream) {
	info := &x.client.conn.info
	inbound, request := &p.config.Snapshot().Inbound, viewOfStream(x.head)
	head := marks{
		host: []byte(x.head.Authority), agent: []byte(x.head.Value("user-agent")),
		handoff: []byte(x.head.Value(headerHandoff)), clientID: []byte(x.head.Value(headerClientID)),
		mirrored: x.head.Value(headerMirrored) != "",
	}
	x.caller = p.callerOf(info, &head)
	if x.refusal = p.admit(info, inbound, x.caller, request, &head); x.refusal.code != "" {
		return
	}
	x.origin = p.originOf(info, inbound, &head)
	x.inbound = inboundSide{
		destination: info.destination, own: info.address, where: x.origin.where, labels: x.origin.labels,
		request: request, slot: p.slotFor(info, x.caller, request, &x.origin),
	}
	x.choose.begin(p, &x.inbound, x.origin.labels, openCount{requests: 1})
	x.peers = true
}

func viewOfStream(h *http2.Head) requestView {
	view := requestView{method: h.Method, header: h}
	view.path, view.query, _ = strings.Cut(h.Path, "?")
	return view
}
