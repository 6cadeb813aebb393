// SPDX-License-Identifier: Apache-2.0

// Command mutation asks whether tests notice faults: it changes one place of a source file at a time
// and runs the tests. Changed files go to the compiler as an overlay; the checkout is never touched.
//
//	mutation -faults faults.yaml -sample 60 -report docs/mutation.md -tests ./rollout,./rollout/model rollout/plan.go ...
//
// Faults are written by hand and must all be caught. Mutants are made from the syntax tree, all of
// them in one program in which each can be switched on, so that a mutant costs a run of some tests, no
// compilation and no start of a program; so are faults. Of each test it is measured first which
// mutants would make a difference to it, and only those tests are run, first those that cost little and
// have noticed much. A sample of the mutants, the same for the same seed, is tried in random order: a
// run that is stopped has tried a random sample too.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// limit of processor time beside ten times that which a test takes without a change.
const limit = 2 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mutation:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("mutation", flag.ContinueOnError)
	faultsFile := flags.String("faults", "", "YAML list of faults that must be caught")
	reasonsFile := flags.String("reasons", "", "YAML map from a surviving mutant to the reason why it may")
	sample := flags.Int("sample", 0, "how many mutants to try, 0 for all, -1 for none")
	seed := flags.Uint64("seed", 1, "which sample")
	testPackages := flags.String("tests", "", "packages whose tests are run, separated by commas")
	skipFaults := flags.Bool("skip-faults", false, "try mutants only")
	report := flags.String("report", "", "Markdown file to write")
	most := flags.Duration("limit", limit, "of processor time of one test, beside ten times what it takes without a change")
	keep := flags.String("keep", "", "file of verdicts, by which a run that was stopped goes on; delete it to begin anew")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	faults, err := readFaults(*faultsFile)
	if err != nil {
		return err
	}
	reasons, err := readReasons(*reasonsFile)
	if err != nil {
		return err
	}
	made, err := mutate(flags.Args(), faults)
	if err != nil {
		return err
	}
	kept, err := openKept(*keep)
	if err != nil {
		return err
	}
	defer kept.close()
	judge, err := newJudge(strings.Split(*testPackages, ","), *most, kept)
	if err != nil {
		return err
	}
	defer judge.close()
	all := made.programs()
	if err := judge.measure(ctx, all); err != nil {
		return err
	}
	result := &result{reasons: reasons, tests: *testPackages, seed: *seed, possible: len(made.all), began: time.Now()}
	if !*skipFaults {
		if result.faults, err = judge.faults(ctx, all, faults); err != nil {
			return err
		}
	}
	if result.mutants, err = judge.mutants(ctx, all, choose(made.all, *sample, *seed)); err != nil {
		return err
	}
	if *report != "" {
		if err := os.WriteFile(*report, []byte(result.markdown()), 0o600); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	return result.check(*reasonsFile)
}

// check fails when the tests do not notice enough, or a reason is for nothing.
func (r *result) check(reasonsFile string) error {
	if needless := r.needless(); len(needless) > 0 {
		return fmt.Errorf("%s: reasons for what has not survived: %s; remove them", reasonsFile, strings.Join(needless, "; "))
	}
	if missed := r.missed(); missed > 0 {
		return fmt.Errorf("%d of %d deliberate faults are not caught", missed, len(r.faults))
	}
	if len(r.mutants) > 0 && r.rate() < 90 {
		return errors.New("less than 90 % of the mutants are killed")
	}
	return nil
}

// choose takes a sample in random order, 0 for all.
func choose(mutants []mutant, count int, seed uint64) []mutant {
	if count < 0 {
		return nil
	}
	if count == 0 {
		count = len(mutants)
	}
	var sample []mutant
	for _, i := range rand.New(rand.NewPCG(seed, 0)).Perm(len(mutants))[:min(count, len(mutants))] {
		sample = append(sample, mutants[i])
	}
	return sample
}
