// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// Main starts a harness, puts it into *into, runs the package's tests and stops it. It returns the
// exit code for TestMain. An interrupt stops the harness too.
func Main(m *testing.M, options Options, into **Harness) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	h, err := Start(ctx, options)
	if err != nil {
		return complain(err)
	}
	*into = h
	finished := make(chan int, 1)
	go func() { finished <- m.Run() }()
	code := 1
	select {
	case code = <-finished:
	case <-ctx.Done():
	}
	if err := h.Stop(); err != nil {
		return complain(err)
	}
	return code
}

func complain(err error) int {
	_, _ = fmt.Fprintln(os.Stderr, "harness:", err)
	return 1
}
