// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// connSet holds all accepted connections, so that none outlives the proxy.
type connSet struct {
	mutex  sync.Mutex
	conns  map[net.Conn]*trackedConn
	now    func() time.Time
	closed bool
}

func newConnSet(now func() time.Time) *connSet {
	return &connSet{conns: map[net.Conn]*trackedConn{}, now: now}
}

func (s *connSet) track(conn net.Conn, side string) (*trackedConn, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	tracked := &trackedConn{Conn: conn, set: s, side: side, since: s.now()}
	s.conns[conn] = tracked
	return tracked, nil
}

func (s *connSet) closeAll() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.closed = true
	for conn := range s.conns {
		_ = conn.Close() // What is open at the drain deadline is cut.
	}
}

// trackedConn is an accepted connection with what /connections tells of it.
type trackedConn struct {
	net.Conn
	set   *connSet
	side  string
	since time.Time
	// The set's mutex is held for these.
	destination netip.AddrPort
	peer        string
	serverName  string
}

// trackedUnder is the accepted connection under all wrappers; nil when there is none.
func trackedUnder(conn net.Conn) *trackedConn {
	for {
		switch wrapper := conn.(type) {
		case *trackedConn:
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

// asksFor is told which server the client's TLS asks for.
func (c *trackedConn) asksFor(serverName string) {
	c.set.mutex.Lock()
	defer c.set.mutex.Unlock()
	c.serverName = serverName
}

func (c *trackedConn) goesTo(destination netip.AddrPort) {
	c.set.mutex.Lock()
	defer c.set.mutex.Unlock()
	c.destination = destination
}

// isFrom is told which SPIFFE ID the other side has proved.
func (c *trackedConn) isFrom(peer string) {
	c.set.mutex.Lock()
	defer c.set.mutex.Unlock()
	c.peer = peer
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

// openConnection is an accepted connection as /connections shows it.
type openConnection struct {
	Direction   string    `json:"direction"`
	Client      string    `json:"client"`
	Destination string    `json:"destination,omitempty"`
	Identity    string    `json:"identity,omitempty"`
	ServerName  string    `json:"serverName,omitempty"`
	Since       time.Time `json:"since"`
}

// idleConnections are unused connections to one endpoint.
type idleConnections struct {
	Address  string `json:"address"`
	Identity string `json:"identity,omitempty"`
	Count    int    `json:"count"`
}

type connectionsDump struct {
	Open []openConnection `json:"open"`
	// Idle are those to endpoints that are kept for the next request.
	Idle []idleConnections `json:"idle"`
}

func (p *Proxy) serveConnections(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(connectionsDump{p.conns.open(), p.upstreams.pool.idle()}) // Whoever asked has gone if it fails.
}

// open lists the accepted connections, the oldest first.
func (s *connSet) open() []openConnection {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	open := make([]openConnection, 0, len(s.conns))
	for _, c := range s.conns {
		shown := openConnection{Direction: c.side, Client: c.RemoteAddr().String(), Identity: c.peer, ServerName: c.serverName, Since: c.since}
		if c.destination.IsValid() {
			shown.Destination = c.destination.String()
		}
		open = append(open, shown)
	}
	slices.SortFunc(open, func(a, b openConnection) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Client, b.Client))
	})
	return open
}

// idle counts the links that are not in use, by endpoint.
func (p *linkPool) idle() []idleConnections {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	idle := make([]idleConnections, 0, len(p.links))
	for key, links := range p.links {
		if len(links) > 0 {
			idle = append(idle, idleConnections{key.address, key.identity, len(links)})
		}
	}
	slices.SortFunc(idle, func(a, b idleConnections) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Identity, b.Identity))
	})
	return idle
}
