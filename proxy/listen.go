// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
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
func (p *Proxy) accept(ctx context.Context, listener net.Listener, serve func(context.Context, net.Conn, netip.AddrPort)) {
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
		tracked, err := p.conns.track(conn)
		if err != nil {
			return // The proxy is closing.
		}
		p.serving.Go(func() { p.serveConn(ctx, conn, tracked, serve) })
	}
}

func (p *Proxy) serveConn(ctx context.Context, conn net.Conn, tracked net.Conn, serve func(context.Context, net.Conn, netip.AddrPort)) {
	destination, err := p.options.OriginalDestination(conn)
	if err != nil || p.isLoop(conn, destination) {
		p.log.Info("refused a connection that was not redirected here",
			"client", conn.RemoteAddr().String(), "destination", destination.String(), "error", err)
		reset(tracked)
		return
	}
	serve(ctx, tracked, netip.AddrPortFrom(destination.Addr().Unmap(), destination.Port()))
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

// connSet holds all accepted connections, so that none outlives the proxy.
type connSet struct {
	mutex  sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

func newConnSet() *connSet { return &connSet{conns: map[net.Conn]struct{}{}} }

func (s *connSet) track(conn net.Conn) (net.Conn, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	s.conns[conn] = struct{}{}
	return &trackedConn{Conn: conn, set: s}, nil
}

func (s *connSet) closeAll() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.closed = true
	for conn := range s.conns {
		_ = conn.Close() // What is open at the drain deadline is cut.
	}
}

type trackedConn struct {
	net.Conn
	set *connSet
}

func (c *trackedConn) Close() error {
	c.set.mutex.Lock()
	delete(c.set.conns, c.Conn)
	c.set.mutex.Unlock()
	return c.Conn.Close()
}

// CloseWrite says that nothing more will be written.
func (c *trackedConn) CloseWrite() error { return closeWrite(c.Conn) }

func (c *trackedConn) unwrap() net.Conn { return c.Conn }
