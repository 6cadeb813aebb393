// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// verdict is what became of a change.
type verdict string

const (
	killed   verdict = "killed"
	survived verdict = "survived"
	// unreached changes make no difference to anything that a test does; they have survived.
	unreached verdict = "not reached"
)

type judged struct {
	file, function, what string
	verdict              verdict
	// by is the first test that failed.
	by string
}

// judge tries changes by the tests of packages.
type judge struct {
	packages []string
	// limit of the processor time of one test beside ten times what it takes without a change. Time on
	// the clock says nothing on a machine that does other things.
	limit   time.Duration
	dir     string
	tests   []*test
	kept    *kept
	workers map[string]*worker
	// said is the end of what the last program of a package wrote.
	said map[string]*tail
}

func newJudge(packages []string, limit time.Duration, kept *kept) (*judge, error) {
	dir, err := os.MkdirTemp("", "mutation-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	return &judge{packages: packages, limit: limit, dir: dir, kept: kept, workers: map[string]*worker{}, said: map[string]*tail{}}, nil
}

func (j *judge) close() {
	for _, pkg := range j.packages {
		j.dismiss(pkg)
	}
	_ = os.RemoveAll(j.dir)
}

// dismiss ends the program of a package; the next question starts another.
func (j *judge) dismiss(pkg string) {
	if w := j.workers[pkg]; w != nil {
		w.end()
		delete(j.workers, pkg)
	}
}

func (j *judge) output(pkg string) string { return string(j.said[pkg].text) }

// ask runs one test with a mutant switched on.
func (j *judge) ask(ctx context.Context, made *programs, one *test, number int) (answer, error) {
	w := j.workers[one.pkg]
	if w == nil {
		program, err := j.program(ctx, made, one.pkg)
		if err != nil {
			return answer{}, err
		}
		if w, err = startWorker(ctx, program, one.pkg); err != nil {
			return answer{}, err
		}
		j.workers[one.pkg], j.said[one.pkg] = w, w.output
	}
	a, err := w.try(number, one.pattern(), j.limit+10*one.took)
	if !a.stays {
		j.dismiss(one.pkg)
	}
	if ctx.Err() != nil {
		return a, fmt.Errorf("try %s: %w", one.name, ctx.Err())
	}
	return a, err
}

// try runs tests until one fails.
func (j *judge) try(ctx context.Context, made *programs, chosen []*test, number int) (verdict, string, error) {
	for _, one := range chosen {
		a, err := j.ask(ctx, made, one, number)
		if err != nil {
			return "", "", err
		}
		if a.failed && !a.ended {
			if a, err = j.confirm(ctx, made, one, number); err != nil {
				return "", "", err
			}
		}
		if !a.failed {
			continue
		}
		one.kills++
		if a.ended {
			return killed, "by the end of the program in " + one.name, nil
		}
		return killed, "by " + one.name, nil
	}
	return survived, "", nil
}

// confirm that a test has failed because of the mutant, and not because of what was tried before in
// the same program: without the mutant it passes there.
func (j *judge) confirm(ctx context.Context, made *programs, one *test, number int) (answer, error) {
	a, err := j.ask(ctx, made, one, 0)
	if err != nil || !a.failed {
		a.failed = true
		return a, err
	}
	j.dismiss(one.pkg)
	return j.ask(ctx, made, one, number)
}

// faults tries each fault by all tests that come to its function.
func (j *judge) faults(ctx context.Context, made *programs, list []fault) (all []judged, err error) {
	for i, f := range list {
		tried := judged{file: f.File, what: f.Name}
		if err := j.judge(ctx, made, &tried, change{f.number, j.key("fault", f.File, f.Old, f.New)}, whatever); err != nil {
			return nil, err
		}
		all = append(all, tried)
		tried.say(i, len(list))
	}
	return all, nil
}

// dear is a test that takes more than this of processor time.
const dear = 200 * time.Millisecond

func cheap(one *test) bool { return one.took <= dear }
func whatever(*test) bool  { return true }

// mutants tries some of the mutants that are compiled into one program for each package: first all of
// them by the tests that cost little, then by all tests those that are left. When it is stopped it
// returns what was tried.
func (j *judge) mutants(ctx context.Context, made *programs, chosen []mutant) ([]judged, error) {
	var all []judged
	for i, one := range chosen {
		tried, err := j.mutant(ctx, made, one, cheap)
		switch {
		case ctx.Err() != nil: // what was tried is worth a report
			return all, nil //nolint:nilerr // it says only that the run was stopped
		case err != nil:
			return nil, err
		}
		all = append(all, tried)
		tried.say(i, len(chosen))
	}
	for i, one := range chosen {
		if all[i].verdict == killed {
			continue
		}
		tried, err := j.mutant(ctx, made, one, whatever)
		switch {
		case ctx.Err() != nil: // what was tried is worth a report
			return all, nil //nolint:nilerr // it says only that the run was stopped
		case err != nil:
			return nil, err
		}
		all[i] = tried
		tried.say(i, len(chosen))
	}
	return all, nil
}

func (j *judge) mutant(ctx context.Context, made *programs, one mutant, among func(*test) bool) (judged, error) {
	tried := judged{file: one.file, function: one.function, what: one.what}
	err := j.judge(ctx, made, &tried, change{one.number, j.key("mutant", one.file, one.place)}, among)
	return tried, err
}

// change is what switches a mutant or a fault on, and what its verdict is kept under.
type change struct {
	number int
	key    string
}

// judge a change by the tests that it may make a difference to and that it has not survived yet.
func (j *judge) judge(ctx context.Context, made *programs, tried *judged, one change, among func(*test) bool) (err error) {
	before := j.kept.find(one.key)
	if tried.verdict, tried.by = before.Verdict, before.By; tried.verdict == killed {
		return nil
	}
	reaching := j.reaching(one.number)
	tried.verdict = unreached
	if len(reaching) > 0 {
		tried.verdict = survived
	}
	chosen := slices.DeleteFunc(reaching, func(one *test) bool { return !among(one) || slices.Contains(before.Tests, one.fullName()) })
	if len(chosen) == 0 {
		return nil
	}
	if tried.verdict, tried.by, err = j.try(ctx, made, chosen, one.number); err != nil {
		return err
	}
	return j.kept.add(one.key, *tried, append(before.Tests, namesOf(chosen)...))
}

func (*judge) key(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:12])
}

func (t judged) say(at, of int) {
	fmt.Printf("%d/%d %s %s %s: %s %s\n", at+1, of, t.verdict, t.file, t.function, t.what, t.by)
}
