// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"io"
	"net"
	"net/netip"
	"sync"
)

// servedConn is an accepted connection with what is known of it. The bytes that were read to look at
// them are read again.
type servedConn struct {
	net.Conn
	prefix []byte
	info   connInfo
	closed sync.Once
	series *tcpSeries
	// beforeWait is called, when it is set, before more than the prefix is read.
	beforeWait func()
	// hello looks at what is read, when it is set.
	hello *helloWatch
}

// connInfo is what is known of an accepted connection before its first request.
type connInfo struct {
	// destination is where the connection was going.
	destination netip.AddrPort
	// address is its text.
	address string
	// labels are those of requests that come on it.
	labels trafficLabels
	// client is the SPIFFE ID of the proxy on the other side; empty when there is none.
	client string
	// from is where it comes from.
	from netip.Addr
	// inRequests says that a proxy sends requests on it, whose marks are that proxy's.
	inRequests bool
}

func (c *servedConn) Read(p []byte) (int, error) {
	n, err := c.read(p)
	if c.hello != nil && !c.hello.saw(p[:n]) {
		c.hello = nil
	}
	return n, err
}

func (c *servedConn) read(p []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(p, c.prefix)
		c.prefix = c.prefix[n:]
		return n, nil
	}
	if c.beforeWait != nil {
		c.beforeWait()
		c.beforeWait = nil
	}
	n, err := c.Conn.Read(p)
	c.series.read(n)
	return n, err
}

func (c *servedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.series.wrote(n)
	return n, err
}

func (c *servedConn) Close() error {
	c.closed.Do(c.series.close)
	return c.Conn.Close()
}

// CloseWrite says that nothing more will be written.
func (c *servedConn) CloseWrite() error { return closeWrite(c.Conn) }

func (c *servedConn) unwrap() net.Conn { return c.Conn }

// closeWrite ends one direction of a connection, or both when it cannot be told apart.
func closeWrite(conn any) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	if whole, ok := conn.(io.Closer); ok {
		return whole.Close()
	}
	return nil
}
