// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// parking waits until a connection can be read. Nobody needs a buffer for that long.
type parking struct {
	raw    syscall.RawConn
	look   func(descriptor uintptr) bool
	looked bool
}

// newParking returns nil, which does not wait, for connections that read ahead, as TLS does.
func newParking(conn net.Conn) *parking {
	raw := rawConn(conn)
	if raw == nil {
		return nil
	}
	p := &parking{raw: raw}
	p.look = p.lookOnce
	return p
}

// rawConn is the kernel's connection under wrappers that neither read ahead nor encrypt; nil when
// there is something else.
func rawConn(conn net.Conn) syscall.RawConn {
	for {
		switch inner := conn.(type) {
		case *net.TCPConn:
			raw, err := inner.SyscallConn()
			if err != nil {
				return nil // It has been closed; whoever reads will see.
			}
			return raw
		case *servedConn:
			if len(inner.prefix) > 0 {
				return nil
			}
			conn = inner.Conn
		case interface{ unwrap() net.Conn }:
			conn = inner.unwrap()
		default:
			return nil
		}
	}
}

// wait returns when there is something to read or the connection has ended.
func (p *parking) wait() error {
	if p == nil {
		return nil
	}
	p.looked = false
	return p.raw.Read(p.look)
}

// lookOnce says the first time whether there is something, and the second time that there is: it is
// then called because of that.
func (p *parking) lookOnce(descriptor uintptr) bool {
	if p.looked {
		return true
	}
	p.looked = true
	return isReadable(descriptor)
}

// isReadable says whether there is something to read, or the connection has ended.
func isReadable(descriptor uintptr) bool {
	ask := [1]unix.PollFd{{Fd: int32(descriptor), Events: unix.POLLIN | unix.POLLRDHUP}}
	for {
		ready, err := unix.Poll(ask[:], 0)
		if err != unix.EINTR {
			return ready != 0
		}
	}
}
