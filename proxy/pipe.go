// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"io"
	"sync"
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

// pipe copies both ways until both sides have ended or one has broken. An end in one direction is
// passed on and leaves the other open, as TCP allows. It closes both.
func (p *Proxy) pipe(client io.ReadWriteCloser, fromClient io.Reader, upstream io.ReadWriteCloser) {
	closeBoth := func() {
		_ = client.Close()   // There is nobody left to tell.
		_ = upstream.Close() // As above.
	}
	var directions sync.WaitGroup
	directions.Go(func() {
		if p.copyDirection(upstream, fromClient) != nil {
			closeBoth()
		}
	})
	directions.Go(func() {
		if p.copyDirection(client, upstream) != nil {
			closeBoth()
		}
	})
	directions.Wait()
	closeBoth()
}

// copyDirection copies until the source ends and passes the end on.
func (p *Proxy) copyDirection(to io.Writer, from io.Reader) error {
	buffer, put := p.buffers.get()
	defer put()
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF { // Only bare EOF is an end in good order.
			return closeWrite(to)
		}
		if err != nil {
			return err
		}
	}
}
