// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// linesPerSecond of one message are written. Whoever can make a proxy write a line for each request, such
// as a caller that is refused, could fill a node's disk with them.
const linesPerSecond = 20

// bounded writes no more than so many lines of a message in a second, and says with the next second's first
// how many it kept back. Messages are constants of the program, so there are few.
type bounded struct {
	slog.Handler
	windows *windows
}

// windows are the seconds under way, by message. All loggers of a process share them.
type windows struct {
	mutex sync.Mutex
	of    map[string]*window
}

type window struct {
	second          time.Time
	lines, keptBack int
}

func newBounded(to slog.Handler) *bounded {
	return &bounded{Handler: to, windows: &windows{of: map[string]*window{}}}
}

// Handle implements slog.Handler.
func (b *bounded) Handle(ctx context.Context, record slog.Record) error {
	write, keptBack := b.windows.admit(record.Message, record.Time.Truncate(time.Second))
	if !write {
		return nil
	}
	if keptBack > 0 {
		record = record.Clone()
		record.AddAttrs(slog.Int("keptBack", keptBack))
	}
	return b.Handler.Handle(ctx, record) //nolint:wrapcheck // A handler adds nothing.
}

// WithAttrs implements slog.Handler.
func (b *bounded) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &bounded{Handler: b.Handler.WithAttrs(attrs), windows: b.windows}
}

// WithGroup implements slog.Handler.
func (b *bounded) WithGroup(name string) slog.Handler {
	return &bounded{Handler: b.Handler.WithGroup(name), windows: b.windows}
}

// admit says whether a line may be written, and how many were not in the second before it.
func (w *windows) admit(message string, second time.Time) (write bool, keptBack int) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	now := w.of[message]
	if now == nil {
		now = &window{}
		w.of[message] = now
	}
	if !now.second.Equal(second) {
		keptBack = now.keptBack
		*now = window{second: second}
	}
	if now.lines == linesPerSecond {
		now.keptBack++
		return false, 0
	}
	now.lines++
	return true, keptBack
}
