// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"

	"github.com/sluice-mesh/sluice/mesh"
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

// upgrade turns the exchange into a pipe after a 101.
func (x *exchange) upgrade(response *http.Response) {
	upstream, ok := response.Body.(io.ReadWriteCloser)
	if !ok {
		_ = response.Body.Close()
		panic(http.ErrAbortHandler)
	}
	client, buffered, err := http.NewResponseController(x.writer).Hijack()
	if err != nil {
		_ = upstream.Close()
		panic(http.ErrAbortHandler)
	}
	response.Body = nil
	err = response.Write(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		_ = upstream.Close() // The client has gone.
		_ = client.Close()   // As above.
		return
	}
	x.proxy.pipe(client, buffered.Reader, upstream)
}

// tunnel sends a CONNECT and pipes what follows; it returns false when the next hop is to be tried.
func (x *exchange) tunnel(to *hop) bool {
	upstream, err := x.proxy.upstreams.connect(x.request.Context(), *to, mesh.ALPNHTTP1)
	if err != nil {
		return x.giveUp(to, err)
	}
	defer to.release()
	out, err := x.outgoing(to, func(httptrace.GotConnInfo) {})
	if err == nil {
		out.URL.Opaque = x.request.RequestURI
		out.Body, out.GetBody, out.ContentLength = nil, nil, 0
		err = out.Write(upstream)
	}
	if err != nil {
		_ = upstream.Close()
		x.problem(http.StatusBadGateway, "no answer from "+to.address)
		return true
	}
	x.proxy.metrics.request(to.labels)
	client, buffered, err := http.NewResponseController(x.writer).Hijack()
	if err != nil {
		_ = upstream.Close()
		panic(http.ErrAbortHandler)
	}
	x.proxy.pipe(client, buffered.Reader, upstream)
	return true
}
