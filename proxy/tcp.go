// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

// carryTCP carries a connection as bytes: to the first place of its chooser that can be connected to.
// idle is its timeout in milliseconds, 0 for none.
func (p *Proxy) carryTCP(ctx context.Context, client net.Conn, from side, labels trafficLabels, idle uint32) {
	carried := false
	p.activity.add()
	defer func() { p.activity.done(carried) }()
	var choose chooser
	choose.begin(p, from, labels, openCount{connections: 1})
	var last *hop
	for {
		to, ok := choose.next()
		if !ok {
			p.metrics.failure(choose.labelsOfFailure(last), choose.failure())
			p.log.Info("nowhere to connect", "client", client.RemoteAddr().String(), "last", last.name())
			reset(client)
			return
		}
		protocols := []string{mesh.ALPNTCP}
		if to.handoff {
			protocols = []string{mesh.ALPNHandoff, mesh.ALPNTCP}
		}
		upstream, err := p.upstreams.connect(ctx, *to, protocols...)
		if err == nil {
			carried = true
			to.ended(time.Now(), false)
			defer to.release()
			p.pipe(client, upstream, idle)
			return
		}
		var connect *connectError
		if !errors.As(err, &connect) {
			connect = &connectError{address: to.address, err: err}
		}
		choose.failed(to, connect)
		last = to
	}
}

// reset closes a connection so that its client sees a failure and not an end in good order.
func reset(conn net.Conn) {
	if tcp := tcpUnder(conn); tcp != nil {
		_ = tcp.SetLinger(0) // Closing resets then; if not, it ends.
		_ = tcp.Close()      // TLS would first say that all is in good order.
	}
	_ = conn.Close()
}

// tcpUnder is the kernel's connection under all wrappers; nil when there is none.
func tcpUnder(conn net.Conn) *net.TCPConn {
	for {
		switch wrapper := conn.(type) {
		case *net.TCPConn:
			return wrapper
		case *tls.Conn:
			conn = wrapper.NetConn()
		case interface{ unwrap() net.Conn }:
			conn = wrapper.unwrap()
		default:
			return nil
		}
	}
}
