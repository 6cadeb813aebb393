// SPDX-License-Identifier: Apache-2.0

// Command cluster brings the test cluster up and down: cluster up|down|status [--timeout 30m].
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sluice-mesh/sluice/e2e/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string, out io.Writer) error {
	flags := flag.NewFlagSet("cluster up|down|status", flag.ContinueOnError)
	timeout := flags.Duration("timeout", 30*time.Minute, "give up after this long; the first up compiles Kubernetes")
	if len(arguments) == 0 {
		flags.Usage()
		return flag.ErrHelp
	}
	if err := flags.Parse(arguments[1:]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, *timeout, fmt.Errorf("not done within %s (see --timeout)", *timeout))
	defer cancel()
	switch arguments[0] {
	case "up":
		_, err := cluster.Up(ctx, cluster.Options{Log: out})
		return err
	case "down":
		return cluster.Down(ctx, out)
	case "status":
		return cluster.Status(ctx, out)
	default:
		flags.Usage()
		return fmt.Errorf("unknown command %q", arguments[0])
	}
}
