// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const bufferSize = 32 << 10

// buffers is a pool of copy buffers.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() (buffer []byte, put func()) {
	kept, ok := b.pool.Get().(*[]byte)
	if !ok {
		made := make([]byte, bufferSize)
		kept = &made
	}
	return *kept, func() { b.pool.Put(kept) }
}

// pipe carries bytes both ways until both sides have ended or one has broken. An end in one direction is
// passed on and leaves the other open, as TCP allows. It closes both, also when nothing has gone either
// way for idle milliseconds, unless that is 0.
func (p *Proxy) pipe(client, upstream net.Conn, idle uint32) {
	closeBoth := func() {
		_ = client.Close()   // There is nobody left to tell.
		_ = upstream.Close() // As above.
	}
	var moved *atomic.Int64
	if idle > 0 {
		watch := p.watchIdle(time.Duration(idle)*time.Millisecond, closeBoth)
		defer watch.stop()
		moved = &watch.moved
	}
	var directions sync.WaitGroup
	directions.Go(func() {
		if p.carryDirection(upstream, client, moved) != nil {
			closeBoth()
		}
	})
	directions.Go(func() {
		if p.carryDirection(client, upstream, moved) != nil {
			closeBoth()
		}
	})
	directions.Wait()
	closeBoth()
}

// carryDirection carries bytes until the source ends and passes the end on. The kernel moves them where both
// sides are plain, as soon as nobody has to look at them any more.
func (p *Proxy) carryDirection(to, from net.Conn, moved *atomic.Int64) error {
	spliceable := true
	for {
		if target, source, ok := bareEnds(to, from); ok && spliceable {
			err := p.splice(target, source, moved)
			if err == nil {
				return closeWrite(to)
			}
			if spliceable = errors.Is(err, errNoPipe); !spliceable && !errors.Is(err, errNoSplice) {
				return err
			}
		}
		switch ended, err := p.copyOnce(to, from, moved); {
		case err != nil:
			return err
		case ended:
			return closeWrite(to)
		}
	}
}

func bareEnds(to, from net.Conn) (target, source bareEnd, ok bool) {
	if source, ok = bareSource(from); ok {
		target, ok = bareTarget(to)
	}
	return target, source, ok
}

// copyOnce copies what is there, and waits for something first. While it waits it has no buffer, where the
// kernel tells when something has come.
func (p *Proxy) copyOnce(to, from net.Conn, moved *atomic.Int64) (ended bool, _ error) {
	if source, ok := bareSource(from); ok {
		if err := awaitReadable(source.raw); err != nil {
			return false, err
		}
	}
	buffer, put := p.buffers.get()
	defer put()
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			note(moved)
			if _, err := to.Write(buffer[:n]); err != nil {
				return false, err
			}
			note(moved)
		}
		if err == io.EOF { //nolint:errorlint // Only bare EOF is an end in good order.
			return true, nil
		}
		if err != nil || n < len(buffer) {
			return false, err
		}
	}
}

// note notes that bytes have gone; moved is nil when nobody asks.
func note(moved *atomic.Int64) {
	if moved != nil {
		moved.Store(time.Now().UnixNano())
	}
}

// idleWatch ends a pipe in which nothing moves.
type idleWatch struct {
	moved atomic.Int64
	mutex sync.Mutex
	timer *time.Timer
}

func (p *Proxy) watchIdle(idle time.Duration, end func()) *idleWatch {
	w := &idleWatch{}
	note(&w.moved)
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.timer = time.AfterFunc(idle, func() {
		w.mutex.Lock()
		defer w.mutex.Unlock()
		if left := idle - time.Since(time.Unix(0, w.moved.Load())); left > 0 {
			w.timer.Reset(left)
			return
		}
		p.metrics.idleConnections.Add(1)
		p.log.Info("closed a connection", "error", errorIdleTime)
		end()
	})
	return w
}

func (w *idleWatch) stop() {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.timer.Stop()
}
