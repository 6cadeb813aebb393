// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// errNothingYet is what a read returns that does not wait.
var errNothingYet = errors.New("nothing has come yet")

// parking waits until a connection can be read. Nobody needs a buffer for that long: it is given back
// when the first look finds nothing.
type parking struct {
	raw    syscall.RawConn
	look   func(descriptor uintptr) bool
	client *client
	err    error
	// descriptor is what the client reads from meanwhile, without waiting; -1 for none.
	descriptor int
}

// newParking returns nil, which does not wait, for connections that read ahead, as TLS does.
func newParking(c *client) *parking {
	raw := rawConn(c.conn)
	if raw == nil {
		return nil
	}
	p := &parking{raw: raw, client: c, descriptor: -1}
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

// await returns when the client's reader has something, or the error with which the connection ended.
// What has come already is read by the look that finds it.
func (p *parking) await() error {
	p.err = nil
	if err := p.raw.Read(p.look); err != nil {
		return err
	}
	return p.err
}

// lookOnce is called until it returns true, each time but the first because something may be there.
func (p *parking) lookOnce(descriptor uintptr) bool {
	p.descriptor = int(descriptor)
	p.err = p.client.reader.Await()
	p.descriptor = -1
	if errors.Is(p.err, errNothingYet) {
		p.client.reader.Release()
		return false
	}
	return true
}

// reading says that the client's reads are for the parking.
func (p *parking) reading() bool { return p != nil && p.descriptor >= 0 }

// read reads what is there and does not wait.
func (p *parking) read(into []byte) (int, error) {
	for {
		n, err := unix.Read(p.descriptor, into)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0, errNothingYet
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// awaitReadable returns when a connection can be read, or has ended.
func awaitReadable(raw syscall.RawConn) error {
	return raw.Read(func(descriptor uintptr) bool { return isReady(descriptor, unix.POLLIN|unix.POLLRDHUP) })
}

// isReady says whether one of the events has come, or the connection is broken.
func isReady(descriptor uintptr, events int16) bool {
	ask := [1]unix.PollFd{{Fd: int32(descriptor), Events: events}}
	for {
		ready, err := unix.Poll(ask[:], 0)
		if err != unix.EINTR {
			return ready != 0
		}
	}
}
