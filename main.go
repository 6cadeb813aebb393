// SPDX-License-Identifier: Apache-2.0

// Command sluice is the control plane of Sluice and its command line in one program.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/sluice-mesh/sluice/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Execute(ctx, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}
