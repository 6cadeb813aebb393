// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchproxy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("benchproxy", flag.ContinueOnError)
	proxy := flags.String("proxy", "build/bin/sluice-proxy", "the shipped binary")
	rounds := flags.Int("rounds", 5, "how often each contender has its turn")
	turn := flags.Duration("turn", 5*time.Second, "how long a turn takes")
	results := flags.String("results", "build/results/bench-proxy.json", "where the numbers go")
	table := flags.String("table", "docs/benchmarks/proxy.md", "where the table goes")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	machine, err := lookAtMachine(ctx)
	if err != nil {
		return err
	}
	bed, err := newBed(ctx, *proxy)
	if err != nil {
		return err
	}
	defer bed.close()
	contenders, err := bed.start(ctx)
	if err != nil {
		return err
	}
	var all []sample
	for _, connections := range []int{32, 512} {
		for round := range *rounds {
			for _, each := range inTurn(contenders, round) {
				measured, err := bed.measure(ctx, each, connections, *turn)
				if err != nil {
					return fmt.Errorf("measure %s with %d connections: %w", each.name, connections, err)
				}
				fmt.Printf("%3d connections, round %d, %-8s %9.0f requests/s  p99 %8.2f ms  %6.1f us of processor per request\n",
					connections, round+1, each.name, measured.rate, measured.p99, measured.processor)
				all = append(all, measured)
			}
		}
	}
	report := summarize(all, machine)
	return report.write(*results, *table)
}

// inTurn begins each round with another contender, so that none always follows the same.
func inTurn(contenders []contender, round int) []contender {
	begin := round % len(contenders)
	return append(append([]contender{}, contenders[begin:]...), contenders[:begin]...)
}
