// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"log/slog"
	"sync"
	"sync/atomic"
)

// portMemory remembers on which ports the server speaks first, so that a connection to one is held
// up by detection only once.
type portMemory struct {
	mutex  sync.Mutex
	silent map[string]bool
	http   map[string]bool
	log    *slog.Logger
}

func newPortMemory(log *slog.Logger) *portMemory {
	return &portMemory{silent: map[string]bool{}, http: map[string]bool{}, log: log}
}

func (m *portMemory) isSilent(port string) bool {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.silent[port]
}

func (m *portMemory) isHTTP(port string) bool {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.http[port]
}

func (m *portMemory) sawHTTP(port string) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.http[port] = true
}

// serverSpokeFirst is told that nothing came from a client in time and then the server spoke. Where
// HTTP has been seen it means nothing: a client had opened a connection for later.
func (m *portMemory) serverSpokeFirst(port string) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.http[port] || m.silent[port] {
		return
	}
	m.silent[port] = true
	m.log.Info("on this port the server speaks first: its connections are carried as TCP without detection; "+
		"an appProtocol on the Service port says so from the start", "port", port, "waited", detectTime)
}

// silentConn is a connection on which nothing came in time. It tells the port memory who speaks
// first after all.
type silentConn struct {
	*servedConn
	first  sync.Once
	server func()
	// spoken says that it is known.
	spoken atomic.Bool
}

func (p *Proxy) silent(conn *servedConn, port string) *silentConn {
	return &silentConn{servedConn: conn, server: func() { p.ports.serverSpokeFirst(port) }}
}

func (c *silentConn) Read(b []byte) (int, error) {
	n, err := c.servedConn.Read(b)
	if n > 0 {
		c.first.Do(func() { c.spoken.Store(true) })
	}
	return n, err
}

func (c *silentConn) Write(b []byte) (int, error) {
	c.first.Do(func() {
		c.server()
		c.spoken.Store(true)
	})
	return c.servedConn.Write(b)
}
