// SPDX-License-Identifier: Apache-2.0

// Command verdict plays the simulation in full and writes its tables.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/sluice-mesh/sluice/analysis/simulation"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	runs := flag.Int("runs", 400, "runs per cell; the live columns, which look 5 times as often, have a quarter")
	results := flag.String("results", "build/results/bench-verdict.json", "where the results go")
	page := flag.String("page", "docs/benchmarks/verdict.md", "where the tables go")
	flag.Parse()
	if err := run(ctx, *runs, *results, *page); err != nil {
		fmt.Fprintln(os.Stderr, "verdict:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, runs int, results, page string) error {
	began := time.Now()
	good, err := table(ctx, simulation.GoodCanaries(), runs)
	if err != nil {
		return err
	}
	bad, err := table(ctx, simulation.Regressions(), runs)
	if err != nil {
		return err
	}
	cells := append(append([]simulation.Cell{}, good...), bad...)
	var names []string
	for _, rule := range append(simulation.Columns(), simulation.Live()...) {
		names = append(names, rule.Name)
	}
	var out strings.Builder
	fmt.Fprintf(&out, introduction, runs, max(1, runs/4), began.UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	fmt.Fprintf(&out, "\n## Good canaries: false rollbacks in %%; median seconds to promote\n\n%s", simulation.Table(good, names, true))
	fmt.Fprintf(&out, "\n## Regressions: missed in %%; seconds to the rollback, median/95th percentile; mean bad requests until the decision\n\n%s", simulation.Table(bad, names, true))
	fmt.Fprintf(&out, "\n## Bars\n\n%s", simulation.BarTable(cells))
	fmt.Fprint(&out, "\n## The gate without one of its pieces\n")
	for _, ablation := range simulation.Ablations() {
		played, err := simulation.Play(ctx, ablation.Scenarios, ablation.Rules, simulation.Runs{Count: runs})
		if err != nil {
			return err
		}
		var names []string
		for _, rule := range ablation.Rules {
			names = append(names, rule.Name)
		}
		fmt.Fprintf(&out, "\n### %s\n\n%s", ablation.Piece, simulation.Table(played, names, false))
	}
	fmt.Fprintf(&out, "\nPlayed in %s.\n", time.Since(began).Round(time.Second))
	encoded, err := json.MarshalIndent(simulation.Results(cells), "", "  ")
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	for path, text := range map[string]string{results: string(encoded) + "\n", page: out.String()} {
		if err := write(path, text); err != nil {
			return err
		}
	}
	fmt.Print(out.String())
	return nil
}

// table plays all columns.
func table(ctx context.Context, scenarios []simulation.Scenario, runs int) ([]simulation.Cell, error) {
	cells, err := simulation.Play(ctx, scenarios, simulation.Columns(), simulation.Runs{Count: runs})
	if err != nil {
		return nil, err
	}
	live, err := simulation.Play(ctx, scenarios, simulation.Live(), simulation.Runs{Count: max(1, runs/4)})
	if err != nil {
		return nil, err
	}
	return append(cells, live...), nil
}

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make a directory for %s: %w", path, err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

const introduction = `# Verdicts: the gate beside other tools' rules

Written by ` + "`make bench-verdict`" + `: %d runs per cell (%d in the live columns), seeds fixed, on %s, %d processors, %s/%s, %s. In brackets: 95 %% confidence intervals.

A simulated workload of 4 stable and 2 canary pods with scrapes every 15 s at random phases, Poisson traffic and weights of 5, 10, 25 and 50 %% for a minute at least. The objectives are 99 %% success and 99 %% within 500 ms; latencies are log-normal (median 60 ms, 99th percentile 306 ms). "tail x3" lets 1.5 %% of requests stall for 0.6 to 1.5 s. Times are seconds since the first step; of the 4500 s of a run the gate may use all.

The gate's columns run the code that ships, on rounds of counters: "gate" reads what the pods count, "callers' counters" what three callers' proxies count of both revisions in one scrape, "live" what the pods report twice a second in place of scrapes, and "live beside" scrapes with such reports beside them, which can only fail the canary; nothing that is live knows anything from before the run. A step that is inconclusive at its deadline is left, as analysis.PolicyAdvance says; the default holds. The other columns are short rules after the tools' documented behaviour, without their extrapolation: Flagger with a threshold of 5 and its interval as window; Argo Rollouts with pauses of 2 minutes, a measurement a minute and its failure limit; a Mann-Whitney test as Kayenta's, once at the end of each 5-minute step, on success rate and 90th percentile.

"research" is what a prototype found before the gate was built, from 1,000 runs of its own world.
`
