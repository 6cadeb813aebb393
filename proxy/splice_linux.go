// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pipeSize is the room of a pipe. With what the kernel gives it at first, 64 KiB, splicing takes longer
	// than copying.
	pipeSize = 1 << 20
	// pipesMost bounds the pipes of a proxy. All proxies of a node are one user to the kernel, whose pipes
	// together may take 64 MiB (pipe-user-pages-soft).
	pipesMost = 16
	// pipesKept is how many are kept for the next bytes. Most connections move nothing at a moment.
	pipesKept = 2
	// pipesRefused is how long none are asked for after the kernel has refused one.
	pipesRefused = time.Second
)

var (
	// errNoSplice says that the kernel does not move the bytes of these connections.
	errNoSplice = errors.New("cannot be spliced")
	// errNoPipe says that there is no pipe for them at this moment.
	errNoPipe = errors.New("no pipe is free")
)

// bareEnd is one end of a direction in which nothing has to look at bytes.
type bareEnd struct {
	raw   syscall.RawConn
	count func(n int)
}

// bareSource is a connection from which the kernel may take bytes: it is plain, and none that were read
// or will come are for somebody to look at.
func bareSource(conn net.Conn) (bareEnd, bool) {
	switch c := conn.(type) {
	case *silentConn:
		if c.spoken.Load() {
			return bareSource(c.servedConn)
		}
	case *servedConn:
		if len(c.prefix) == 0 && c.hello == nil && c.beforeWait == nil {
			return bareEndOf(c.Conn, c.series.read)
		}
	case *upstreamConn:
		if c.wire == nil {
			return bareEndOf(c.Conn, c.countRead)
		}
	}
	return bareEnd{}, false
}

// bareTarget is a connection that the kernel may give bytes.
func bareTarget(conn net.Conn) (bareEnd, bool) {
	switch c := conn.(type) {
	case *silentConn:
		if c.spoken.Load() {
			return bareTarget(c.servedConn)
		}
	case *servedConn:
		return bareEndOf(c.Conn, c.series.wrote)
	case *upstreamConn:
		if c.wire == nil {
			return bareEndOf(c.Conn, c.countWritten)
		}
	}
	return bareEnd{}, false
}

func bareEndOf(conn net.Conn, count func(n int)) (bareEnd, bool) {
	raw := rawConn(conn)
	return bareEnd{raw, count}, raw != nil
}

// splicing moves bytes from one connection to another through a pipe, in the kernel. It has the pipe only
// while there are bytes in it: with nothing to move a connection holds neither a pipe nor a buffer.
type splicing struct {
	pipes *kernelPipes
	pipe  *kernelPipe
	// held is how much is in the pipe.
	held  int
	ended bool
	err   error
	to    bareEnd
	moved *atomic.Int64
}

// splice moves bytes until the source ends. With errNoSplice and errNoPipe none are lost: copying goes on from
// there.
func (p *Proxy) splice(to, from bareEnd, moved *atomic.Int64) error {
	s := &splicing{pipes: p.pipes, to: to, moved: moved}
	defer s.dropPipe()
	fill, drain := s.fill, s.drain
	for {
		if err := errors.Join(from.raw.Read(fill), s.err); err != nil {
			return err
		}
		if s.ended {
			return nil
		}
		from.count(s.held)
		note(moved)
		if err := errors.Join(to.raw.Write(drain), s.err); err != nil {
			return err
		}
	}
}

// fill takes what has come. It is called until it returns true, each time but the first because something
// may be there.
func (s *splicing) fill(descriptor uintptr) bool {
	if s.pipe == nil {
		if s.pipe = s.pipes.take(); s.pipe == nil {
			s.err = errNoPipe
			return true
		}
	}
	n, err := spliceOnce(int(descriptor), s.pipe.write, pipeSize)
	switch {
	case errors.Is(err, unix.EAGAIN): // The pipe is empty, so it is the connection that is.
		s.pipes.give(s.pipe)
		s.pipe = nil
		return false
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		s.err = errNoSplice
	case err != nil:
		s.err = os.NewSyscallError("splice", err)
	case n == 0:
		s.ended = true
	default:
		s.held = n
	}
	return true
}

// drain gives the target what is in the pipe.
func (s *splicing) drain(descriptor uintptr) bool {
	for s.held > 0 {
		n, err := spliceOnce(s.pipe.read, int(descriptor), s.held)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false
		case err != nil:
			s.err = os.NewSyscallError("splice", err)
			return true
		}
		s.held -= n
		s.to.count(n)
		note(s.moved)
	}
	return true
}

func spliceOnce(from, to, most int) (int, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, most, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return int(n), err
		}
	}
}

// dropPipe gives the pipe back, or closes it with what nobody will take any more.
func (s *splicing) dropPipe() {
	switch {
	case s.pipe == nil:
	case s.held > 0:
		s.pipes.drop(s.pipe)
	default:
		s.pipes.give(s.pipe)
	}
}

// kernelPipe has bytes on their way from one connection to another.
type kernelPipe struct{ read, write int }

func (p *kernelPipe) close() {
	_ = unix.Close(p.read)  // There is nothing to be done about a descriptor that does not close.
	_ = unix.Close(p.write) // As above.
}

// kernelPipes are the pipes of a proxy.
type kernelPipes struct {
	open func() (*kernelPipe, error)
	now  func() time.Time

	mutex  sync.Mutex
	empty  []*kernelPipe
	count  int
	closed bool
	// refused is when the kernel has last refused one.
	refused time.Time
}

func newKernelPipes(now func() time.Time) *kernelPipes {
	return &kernelPipes{open: openKernelPipe, now: now}
}

func openKernelPipe() (*kernelPipe, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	pipe := &kernelPipe{ends[0], ends[1]}
	if _, err := unix.FcntlInt(uintptr(pipe.write), unix.F_SETPIPE_SZ, pipeSize); err != nil {
		pipe.close()
		return nil, err
	}
	return pipe, nil
}

// take returns nil when there is no pipe at this moment.
func (k *kernelPipes) take() *kernelPipe {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if last := len(k.empty) - 1; last >= 0 {
		taken := k.empty[last]
		k.empty = k.empty[:last]
		return taken
	}
	if k.count >= pipesMost || !k.refused.IsZero() && k.now().Sub(k.refused) < pipesRefused {
		return nil
	}
	made, err := k.open()
	if err != nil {
		k.refused = k.now()
		return nil
	}
	k.count++
	return made
}

// give takes an empty pipe back.
func (k *kernelPipes) give(pipe *kernelPipe) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if k.closed || len(k.empty) >= pipesKept {
		k.end(pipe)
		return
	}
	k.empty = append(k.empty, pipe)
}

// drop closes a pipe with what is in it.
func (k *kernelPipes) drop(pipe *kernelPipe) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.end(pipe)
}

func (k *kernelPipes) end(pipe *kernelPipe) {
	k.count--
	pipe.close()
}

func (k *kernelPipes) close() {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.closed = true
	for _, pipe := range k.empty {
		k.end(pipe)
	}
	k.empty = nil
}
