// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"net"

	"github.com/sluice-mesh/sluice/mesh"
)

// carryTCP carries a connection as bytes: to the first place of its chooser that can be connected to.
func (p *Proxy) carryTCP(ctx context.Context, client net.Conn, choose *chooser) {
	p.activity.add()
	defer p.activity.done()
	choose.connection = true
	var last *hop
	for {
		to, ok := choose.next()
		if !ok {
			p.metrics.failure(choose.labelsOfFailure(last), errorConnect)
			p.log.Info("nowhere to connect", "client", client.RemoteAddr().String(), "last", last.name())
			reset(client)
			return
		}
		upstream, err := p.upstreams.connect(ctx, *to, mesh.ALPNTCP)
		if err == nil {
			defer to.release()
			p.pipe(client, client, upstream)
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

// reset closes a connection so that its client sees a failure and not an empty answer.
func reset(conn net.Conn) {
	inner := conn
	for {
		wrapper, ok := inner.(interface{ unwrap() net.Conn })
		if !ok {
			break
		}
		inner = wrapper.unwrap()
	}
	if tcp, ok := inner.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // Closing resets then; if not, it ends.
	}
	_ = conn.Close()
}
