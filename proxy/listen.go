// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

// Listeners are where the proxy's three ports are listened on.
type Listeners struct {
	Outbound, Inbound, Admin net.Listener
}

// Listen opens the proxy's ports on all addresses.
func Listen(ctx context.Context) (Listeners, error) {
	var listeners Listeners
	var config net.ListenConfig
	for _, side := range []struct {
		listener *net.Listener
		port     int
	}{
		{&listeners.Outbound, mesh.PortOutbound},
		{&listeners.Inbound, mesh.PortInbound},
		{&listeners.Admin, mesh.PortAdmin},
	} {
		opened, err := config.Listen(ctx, "tcp", fmt.Sprintf(":%d", side.port))
		if err != nil {
			listeners.close()
			return Listeners{}, fmt.Errorf("listen on port %d: %w", side.port, err)
		}
		*side.listener = opened
	}
	return listeners, nil
}

func (l Listeners) close() {
	for _, listener := range []net.Listener{l.Outbound, l.Inbound, l.Admin} {
		if listener != nil {
			_ = listener.Close() // Nothing is lost with it.
		}
	}
}

// accept hands each connection, with where it was going, to serve until the listener is closed.
func (p *Proxy) accept(ctx context.Context, side string, listener net.Listener, serve func(context.Context, net.Conn, netip.AddrPort)) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors or memory, most likely: wait for some to be given back.
			p.log.Warn("cannot accept", "listener", listener.Addr().String(), "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		tracked, err := p.conns.track(conn, side)
		if err != nil {
			return // The proxy is closing.
		}
		p.serving.Go(func() { p.serveConn(ctx, conn, tracked, serve) })
	}
}

func (p *Proxy) serveConn(ctx context.Context, conn net.Conn, tracked *trackedConn, serve func(context.Context, net.Conn, netip.AddrPort)) {
	destination, err := p.options.OriginalDestination(conn)
	if err != nil || p.isLoop(conn, destination) {
		p.log.Info("refused a connection that was not redirected here",
			"client", conn.RemoteAddr().String(), "destination", destination.String(), "error", err)
		reset(tracked)
		return
	}
	destination = netip.AddrPortFrom(destination.Addr().Unmap(), destination.Port())
	tracked.goesTo(destination)
	serve(ctx, tracked, destination)
}

// isLoop says that a connection was going to the proxy itself: carrying it would bring it back here.
func (p *Proxy) isLoop(conn net.Conn, destination netip.AddrPort) bool {
	own := p.isOwn(destination.Addr()) || destination.Addr().Unmap().IsLoopback()
	for _, listener := range []net.Listener{p.options.Listeners.Outbound, p.options.Listeners.Inbound} {
		address, err := netip.ParseAddrPort(listener.Addr().String())
		if err != nil || address.Port() != destination.Port() {
			continue
		}
		if own || conn.LocalAddr().String() == destination.String() {
			return true
		}
	}
	return false
}
