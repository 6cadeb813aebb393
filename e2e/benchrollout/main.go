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

	"github.com/sluice-mesh/sluice/e2e/benchreport"
)

// plan is what is measured.
type plan struct {
	binary           string
	idle, running    int
	repeats          int
	measure          time.Duration
	interval, scrape time.Duration
	results, table   string
	profile          string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchrollout:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) (failed error) {
	p := plan{}
	flags := flag.NewFlagSet("benchrollout", flag.ContinueOnError)
	flags.StringVar(&p.binary, "controller", "build/bin/sluice", "the shipped binary")
	flags.IntVar(&p.idle, "idle", 2000, "Canaries at rest")
	flags.IntVar(&p.running, "running", 500, "Canaries in a run, beside them")
	flags.IntVar(&p.repeats, "repeats", 20, "how often each reaction is timed")
	flags.DurationVar(&p.measure, "measure", 30*time.Second, "how long each load is measured")
	flags.DurationVar(&p.interval, "interval", 5*time.Second, "the controller's --interval")
	flags.DurationVar(&p.scrape, "scrape", 5*time.Second, "Prometheus's scrape interval")
	flags.StringVar(&p.results, "results", "build/results/bench-rollout.json", "where the numbers go")
	flags.StringVar(&p.table, "table", "docs/benchmarks/rollout.md", "where the table goes")
	flags.StringVar(&p.profile, "profile", "", "directory for the controller's logs; default none are kept")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	where, err := benchreport.LookAtMachine()
	if err != nil {
		return err
	}
	b, err := newBed(ctx, p)
	if err != nil {
		return err
	}
	defer func() {
		if err := b.close(); failed == nil {
			failed = err
		}
	}()
	results, err := b.measureAll(ctx)
	if err != nil {
		return err
	}
	return report{machine: where, plan: p, results: results}.write()
}

// measureAll goes through the phases of the benchmark.
func (b *bed) measureAll(ctx context.Context) ([]benchreport.Result, error) {
	var all []benchreport.Result
	for _, phase := range []func(context.Context) ([]benchreport.Result, error){b.adopt, b.startAgain, b.rest, b.release, b.runOn, b.reactAll} {
		results, err := phase(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range results {
			fmt.Printf("%-28s %-34s %12.2f %s\n", r.Case, r.Metric, r.Ours, r.Unit)
		}
		all = append(all, results...)
	}
	return all, nil
}
