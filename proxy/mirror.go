// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/http1"
)

const (
	// mirrorsMost is how many copies are on their way at once, and as many may wait; what is more is
	// not copied.
	mirrorsMost = 32
	// mirrorTime is how long a copy may take, answer included.
	mirrorTime = 10 * time.Second
)

// headerMirrored marks copies. Nobody else may send it.
const headerMirrored = "sluice-mirrored"

// What became of a copy.
const (
	mirrorAnswered = "answered"
	mirrorFailed   = "failed"
	mirrorDropped  = "dropped" // Too many were on their way, or its body was too large to keep.
)

var errNoMirror = errors.New("no endpoint to copy to")

// mirrorRoute is where a copy goes.
type mirrorRoute struct {
	endpoints []*mesh.Endpoint
}

// mirrorOf says whether a request that the canary does not get is copied to it. Only a pod with a
// proxy gets copies: the proxy is who keeps them out of the gate. It is pure.
func mirrorOf(split *mesh.Split, serving []mesh.Endpoint, request requestView, drawn mesh.RevisionWeight, draw func() float64) *mirrorRoute {
	if split.Mirror == nil || drawn.Name == canaryRevision || request.header == nil ||
		!mirrorable(request.method, split.Mirror.AllowUnsafe) || draw()*100 >= float64(split.Mirror.Percent) {
		return nil
	}
	hash := candidateOf(split)
	var to mirrorRoute
	for i := range serving {
		if e := &serving[i]; e.Workload == split.Workload && e.PodTemplateHash == hash && e.Ready && e.Identity != "" {
			to.endpoints = append(to.endpoints, e)
		}
	}
	if len(to.endpoints) == 0 {
		return nil
	}
	return &to
}

// mirrorable says whether requests of a method are copied. A tunnel cannot be, and who traces wants to
// see one way.
func mirrorable(method string, allowUnsafe bool) bool {
	switch method {
	case http.MethodConnect, http.MethodTrace:
		return false
	}
	return allowUnsafe || safeMethod(method)
}

// mirrorCopy is a request to be sent once more.
type mirrorCopy struct {
	to    *mirrorRoute
	side  side
	asked http1.Asked
	// message is all of it, as it is written.
	message []byte
}

// mirrors sends copies beside everything else: no original waits for one.
type mirrors struct {
	proxy *Proxy
	queue chan mirrorCopy
}

func newMirrors(p *Proxy) *mirrors {
	return &mirrors{proxy: p, queue: make(chan mirrorCopy, mirrorsMost)}
}

// add takes a copy if there is room.
func (m *mirrors) add(request mirrorCopy) {
	select {
	case m.queue <- request:
	default:
		m.proxy.metrics.mirror(mirrorDropped)
	}
}

// run sends what was added until the context ends.
func (m *mirrors) run(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(mirrorsMost)
	defer func() { _ = group.Wait() }() // Nothing in it fails.
	for {
		select {
		case <-ctx.Done():
			return
		case request := <-m.queue:
			group.Go(func() error {
				outcome := mirrorAnswered
				if err := m.send(ctx, request); err != nil {
					outcome = mirrorFailed
					m.proxy.log.Debug("a copy was not answered", "error", err)
				}
				m.proxy.metrics.mirror(outcome)
				return nil
			})
		}
	}
}

// send sends a copy once and throws its answer away. It counts for no gate: not here and, marked as
// it is, not where it arrives.
func (m *mirrors) send(ctx context.Context, request mirrorCopy) error {
	ctx, cancel := context.WithTimeout(ctx, mirrorTime)
	defer cancel()
	endpoint := m.proxy.balancer.pick([]tier{{endpoints: request.to.endpoints}}, &tries{judged: true}, rand.Float64)
	if endpoint == nil {
		return errNoMirror
	}
	defer m.proxy.balancer.claim(endpoint.Address, 0).release()
	to := request.side.hopTo(endpoint)
	l := m.proxy.upstreams.pool.take(linkKey{to.address, to.identity}, time.Now())
	if l == nil {
		var err error
		if l, err = m.proxy.upstreams.open(ctx, &to); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(longAgo()) }) // It may neither read nor answer.
	err := l.ask(request.message, request.asked)
	if !stop() || err != nil || !l.usable() {
		l.close()
		return err
	}
	m.proxy.upstreams.pool.put(l, time.Now())
	return nil
}

// mirror has a request copied that was answered. What was upgraded is no request any more, and a body
// of which not all was kept cannot be sent again.
func (x *exchange) mirror() {
	if x.choose.mirror == nil || x.request.Upgrades() {
		return
	}
	body := x.content
	if x.body != nil {
		whole := false
		if body, whole = x.body.whole(); !whole {
			x.proxy.metrics.mirror(mirrorDropped)
			return
		}
	}
	var message bytes.Buffer
	w := http1.NewWriter(&message, &x.proxy.messages)
	w.Request(&x.request, http1.Sending{Skip: x.skip, Host: x.client.conn.info.address})
	x.addFields(w, false)
	w.Field(headerMirrored, "true")
	w.EndHead()
	_ = w.Content(body) // A buffer takes whatever comes.
	w.EndContent(x.client.reader)
	_ = w.Flush() // As above.
	x.proxy.mirrors.add(mirrorCopy{
		to: x.choose.mirror, side: x.choose.side.keep(), asked: x.request.Asked(), message: message.Bytes(),
	})
}
