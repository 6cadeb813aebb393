// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-mesh/sluice/mesh"
)

const (
	// mirrorsMost is how many copies are on their way at once, and as many may wait; what is more is
	// not copied.
	mirrorsMost = 32
	// mirrorTime is how long a copy may take, answer included.
	mirrorTime = 10 * time.Second
	// mirrorAnswerMost is how much of a copy's answer is read so that its connection can be used again.
	mirrorAnswerMost = 256 << 10
)

// headerMirrored marks copies, in net/http's spelling. Nobody else may send it.
const headerMirrored = "Sluice-Mirrored"

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
	to     *mirrorRoute
	hopTo  func(*mesh.Endpoint) hop
	method string
	host   string
	// target is where the request goes, at an address.
	target func(address string) *url.URL
	header http.Header
	body   []byte
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
	endpoint := m.proxy.balancer.pick([][]*mesh.Endpoint{request.to.endpoints}, nil, rand.Float64)
	if endpoint == nil {
		return errNoMirror
	}
	defer m.proxy.balancer.claim(endpoint.Address)()
	to := request.hopTo(endpoint)
	out := (&http.Request{
		Method: request.method, URL: request.target(to.address), Host: request.host, Header: request.header,
		Body: http.NoBody, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(withLabels(ctx, to.labels))
	if len(request.body) > 0 {
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(request.body)), int64(len(request.body))
	}
	response, err := m.proxy.upstreams.transport(&to, request.method).RoundTrip(out)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // The answer is thrown away.
	if _, err = io.CopyN(io.Discard, response.Body, mirrorAnswerMost); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// mirror has a request copied that was answered. What was upgraded is no request any more, and a body
// of which not all was kept cannot be sent again.
func (x *exchange) mirror() {
	if x.choose.mirror == nil || len(x.header["Upgrade"]) > 0 {
		return
	}
	body, whole := x.body.whole()
	if !whole {
		x.proxy.metrics.mirror(mirrorDropped)
		return
	}
	header := x.header.Clone()
	x.prepare(header, &hop{})
	header[headerMirrored] = []string{"true"}
	delete(header, "Expect") // Nobody waits to be told to go on.
	x.proxy.mirrors.add(mirrorCopy{
		to: x.choose.mirror, hopTo: x.choose.hopTo, method: x.request.Method, host: x.request.Host,
		target: func(address string) *url.URL { return target(x.request, address) }, header: header, body: body,
	})
}
