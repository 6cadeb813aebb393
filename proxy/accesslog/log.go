// SPDX-License-Identifier: Apache-2.0

package accesslog

import (
	"bytes"
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

const (
	// pendingMost bounds what waits to be written; as much again may be on its way.
	pendingMost = 256 << 10
	// gatherTime is how long lines wait for others, so that a write is not made for each.
	gatherTime = 100 * time.Millisecond
	// lastTime is how long the last lines may take when the proxy ends: whoever should read them may
	// have gone.
	lastTime = time.Second
)

// Log writes lines. Whoever adds one never waits for whoever reads them.
type Log struct {
	out     io.Writer
	as      mesh.AccessLog
	dropped atomic.Uint64
	// first has an element when lines have begun to wait, half when it is time to write them.
	first, half chan struct{}

	// The mutex is never held while something is written.
	mutex   sync.Mutex
	pending []byte
	// written is what pending is exchanged with.
	written []byte
}

// New returns a log that writes nothing until it is started.
func New(out io.Writer, as mesh.AccessLog) *Log {
	return &Log{out: out, as: as, first: make(chan struct{}, 1), half: make(chan struct{}, 1)}
}

// Dropped is how many lines there was no room for, or could not be written.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Add adds a line, if there is room.
func (l *Log) Add(e *Entry) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	before := len(l.pending)
	l.pending = appendLine(l.pending, e, l.as)
	switch after := len(l.pending); {
	case after > pendingMost:
		l.pending = l.pending[:before]
		l.dropped.Add(1)
	case after > pendingMost/2:
		wake(l.half)
	case before == 0 && after > 0:
		wake(l.first)
	}
}

func wake(who chan struct{}) {
	select {
	case who <- struct{}{}:
	default:
	}
}

// Start begins to write. What it returns writes what is left and ends that, unless that takes too long.
func (l *Log) Start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(ctx)
	}()
	return func() {
		cancel()
		timer := time.NewTimer(lastTime)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
		}
	}
}

func (l *Log) run(ctx context.Context) {
	gather := time.NewTimer(gatherTime)
	defer gather.Stop()
	for {
		select {
		case <-l.first:
			gather.Reset(gatherTime)
		case <-gather.C:
			l.write()
		case <-l.half:
			l.write()
		case <-ctx.Done():
			l.write()
			return
		}
	}
}

// write writes what waits.
func (l *Log) write() {
	l.mutex.Lock()
	lines := l.pending
	l.pending, l.written = l.written[:0], nil
	l.mutex.Unlock()
	if len(lines) > 0 {
		if n, err := l.out.Write(lines); err != nil {
			l.dropped.Add(uint64(bytes.Count(lines[n:], []byte("\n"))))
		}
	}
	l.mutex.Lock()
	l.written = lines
	l.mutex.Unlock()
}
