// SPDX-License-Identifier: Apache-2.0

package binaries

import (
	"context"
	"fmt"
)

// Batch is a row of programs being built in the background, one after the other: the compiler uses
// all processors by itself, and what is needed first is ready first.
type Batch struct {
	results map[string]*result
}

type result struct {
	done chan struct{}
	path string
	err  error
}

// Start begins to build tools in the order given. The build ends with ctx.
func (b *Builder) Start(ctx context.Context, names ...string) *Batch {
	batch := &Batch{results: make(map[string]*result, len(names))}
	for _, name := range names {
		batch.results[name] = &result{done: make(chan struct{})}
	}
	go func() {
		for _, name := range names {
			built := batch.results[name]
			built.path, built.err = b.Tool(ctx, name)
			close(built.done)
		}
	}()
	return batch
}

// Wait returns the path of one of the batch's programs as soon as it is there.
func (b *Batch) Wait(ctx context.Context, name string) (string, error) {
	built, ok := b.results[name]
	if !ok {
		return "", fmt.Errorf("wait for %s: it is not in this batch", name)
	}
	select {
	case <-built.done:
		return built.path, built.err
	case <-ctx.Done():
		return "", fmt.Errorf("wait for %s: %w", name, context.Cause(ctx))
	}
}
