// SPDX-License-Identifier: Apache-2.0

// Command binaries builds the test bed's programs that are named, all without arguments, and prints
// their paths: to fill a cache before tests, or to get at kubectl.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sluice-mesh/sluice/e2e/binaries"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "binaries:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	builder, err := binaries.New(os.Stderr)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		for _, tool := range binaries.Tools() {
			names = append(names, tool.Name)
		}
	}
	for _, name := range names {
		path, err := builder.Tool(ctx, name)
		if err != nil {
			return err
		}
		_, _ = fmt.Println(path)
	}
	return nil
}
