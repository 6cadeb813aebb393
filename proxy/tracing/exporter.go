// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/proxy/accesslog"
)

const (
	// pendingMost bounds what waits to be sent; as much again may be on its way.
	pendingMost = 256 << 10
	// gatherTime is how long spans wait for others.
	gatherTime = time.Second
	// sendTime is how long a collector may take for one batch.
	sendTime = 5 * time.Second
	// lastTime is how long the last batch may take when the proxy ends.
	lastTime = time.Second
	// answerMost is how much of a collector's answer is read.
	answerMost = 64 << 10
)

// Options are what an exporter is made of.
type Options struct {
	mesh.Tracing
	// Version of the proxy.
	Version string
	// Resource says who sends the spans, whenever some are sent.
	Resource func() []Attribute
	// Dial opens connections to the collector.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Failed is told why a batch was lost.
	Failed func(error)
}

// Exporter sends spans in batches. Whoever adds one never waits for the collector.
type Exporter struct {
	options           Options
	client            *http.Client
	exported, dropped atomic.Uint64
	// first has an element when spans have begun to wait, half when it is time to send them.
	first, half chan struct{}

	// The mutex is never held while something is sent.
	mutex   sync.Mutex
	pending []byte
	count   uint64
}

// New returns an exporter that sends nothing until it is started.
func New(options Options) *Exporter {
	transport := &http.Transport{
		DialContext:         func(ctx context.Context, _, address string) (net.Conn, error) { return options.Dial(ctx, address) },
		MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute,
	}
	return &Exporter{
		options: options, client: &http.Client{Transport: transport, Timeout: sendTime, CheckRedirect: stay},
		first: make(chan struct{}, 1), half: make(chan struct{}, 1),
	}
}

// stay follows no redirect: a collector is where people say.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Exported is how many spans a collector has taken.
func (x *Exporter) Exported() uint64 { return x.exported.Load() }

// Dropped is how many there was no room for, or no collector has taken.
func (x *Exporter) Dropped() uint64 { return x.dropped.Load() }

// Add adds a span, if there is room.
func (x *Exporter) Add(at *Context, e *accesslog.Entry) {
	x.mutex.Lock()
	defer x.mutex.Unlock()
	before := len(x.pending)
	x.pending = appendSpan(x.pending, at, e)
	after := len(x.pending)
	if after > pendingMost {
		x.pending = x.pending[:before]
		x.dropped.Add(1)
		return
	}
	x.count++
	switch {
	case after > pendingMost/2:
		wake(x.half)
	case before == 0:
		wake(x.first)
	}
}

func wake(who chan struct{}) {
	select {
	case who <- struct{}{}:
	default:
	}
}

// Start begins to send. What it returns sends what is left and ends that, unless that takes too long.
func (x *Exporter) Start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ending, end := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		x.run(ctx, ending)
	}()
	return func() {
		end()
		timer := time.AfterFunc(lastTime, cancel)
		defer timer.Stop()
		<-done
		cancel()
		x.client.CloseIdleConnections()
	}
}

func (x *Exporter) run(ctx, ending context.Context) {
	gather := time.NewTimer(gatherTime)
	defer gather.Stop()
	for {
		select {
		case <-x.first:
			gather.Reset(gatherTime)
		case <-gather.C:
			x.sendPending(ctx)
		case <-x.half:
			x.sendPending(ctx)
		case <-ending.Done():
			x.sendPending(ctx)
			return
		}
	}
}

// sendPending sends what waits, once: what a collector does not take is lost, not kept for when it is in trouble
// anyway.
func (x *Exporter) sendPending(ctx context.Context) {
	x.mutex.Lock()
	spans, count := x.pending, x.count
	x.pending, x.count = nil, 0
	x.mutex.Unlock()
	if count == 0 {
		return
	}
	if err := x.send(ctx, request(x.options.Resource(), x.options.Version, spans)); err != nil {
		x.dropped.Add(count)
		x.options.Failed(err)
		return
	}
	x.exported.Add(count)
}

func (x *Exporter) send(ctx context.Context, message []byte) error {
	asked, err := http.NewRequestWithContext(ctx, http.MethodPost, x.options.Collector, bytes.NewReader(message))
	if err != nil {
		return err
	}
	asked.Header.Set("Content-Type", "application/x-protobuf")
	asked.Header.Set("User-Agent", "sluice-proxy/"+x.options.Version)
	answer, err := x.client.Do(asked)
	if err != nil {
		return err
	}
	defer answer.Body.Close()                                           //nolint:errcheck // It is read only to be used again.
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, answerMost)) // The status says what became of it.
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the collector has answered %s", answer.Status)
	}
	return nil
}
