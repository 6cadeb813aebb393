// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
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
	// limit of the processor time of one run of tests beside what they take without a change. Time on
	// the clock says nothing on a machine that does other things.
	limit time.Duration
	dir   string
	tests []test
	kept  *kept
}

func newJudge(packages []string, limit time.Duration, kept *kept) (*judge, error) {
	dir, err := os.MkdirTemp("", "mutation-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	return &judge{packages: packages, limit: limit, dir: dir, kept: kept}, nil
}

func (j *judge) close() { _ = os.RemoveAll(j.dir) }

// mostMemory of address space: a mutant that never ends must not take the machine with it.
const mostMemory = 8 << 20 // KiB

// command runs tests of a package, with a mutant switched on, until one fails.
func (j *judge) command(ctx context.Context, program string, s stage, environment ...string) *exec.Cmd {
	seconds := int((j.limit + 4*s.took).Seconds())
	patience := 3*time.Minute + 30*s.took // with what waits for ever
	command := exec.CommandContext(ctx, "/bin/sh", "-c", fmt.Sprintf(`ulimit -t %d; ulimit -v %d; exec "$0" "$@"`, seconds, mostMemory),
		program, "-test.v", "-test.short", "-test.failfast", "-test.timeout="+patience.String(), "-test.run=^("+strings.Join(s.names, "|")+")$")
	command.Dir = s.pkg
	command.Env = append(os.Environ(), environment...)
	return command
}

// run says what the tests wrote and whether one failed.
func (j *judge) run(ctx context.Context, command *exec.Cmd) (output string, failed bool, err error) {
	text, err := command.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return string(text), false, nil
	case !errors.As(err, &exit) || ctx.Err() != nil:
		return "", false, fmt.Errorf("run the tests of %s: %w", command.Dir, errors.Join(err, ctx.Err()))
	}
	return string(text), true, nil
}

// try runs tests, cheap ones first, until one fails.
func (j *judge) try(ctx context.Context, made *programs, chosen []test, number int) (verdict, string, error) {
	for _, s := range stagesOf(chosen) {
		program, err := j.program(ctx, made, s.pkg)
		if err != nil {
			return "", "", err
		}
		output, failed, err := j.run(ctx, j.command(ctx, program, s, switchVariable+"="+strconv.Itoa(number)))
		if err != nil {
			return "", "", err
		}
		if failed {
			return killed, killer(output), nil
		}
	}
	return survived, "", nil
}

// faults tries each fault by all tests that come to its function.
func (j *judge) faults(ctx context.Context, made *programs, list []fault) (all []judged, err error) {
	for i, f := range list {
		tried := judged{file: f.File, what: f.Name, verdict: unreached}
		reaching := j.reaching(f.number)
		key, by := j.key("fault", f.File, f.Old, f.New), namesOf(reaching)
		if !j.kept.find(key, &tried, by) {
			if len(reaching) > 0 {
				if tried.verdict, tried.by, err = j.try(ctx, made, reaching, f.number); err != nil {
					return nil, err
				}
			}
			if err := j.kept.add(key, tried, by); err != nil {
				return nil, err
			}
		}
		all = append(all, tried)
		tried.say(i, len(list))
	}
	return all, nil
}

// mutants tries some of the mutants that are compiled into one program for each package: first all of
// them by the tests that cost little, then by all tests those that are left. When it is stopped it
// returns what was tried.
func (j *judge) mutants(ctx context.Context, made *programs, chosen []mutant) ([]judged, error) {
	cheap := func(one test) bool { return one.took <= dear }
	whatever := func(test) bool { return true }
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
		if all[i].verdict != survived && all[i].verdict != unreached {
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

// dear is a test that takes more than this of processor time.
const dear = 2 * time.Second

func (j *judge) mutant(ctx context.Context, made *programs, one mutant, among func(test) bool) (judged, error) {
	tried := judged{file: one.file, function: one.function, what: one.what, verdict: unreached}
	reaching := j.reaching(one.number)
	key := j.key("mutant", one.file, one.place)
	// What has survived some tests is tried again by others.
	if j.kept.find(key, &tried, namesOf(reaching)) {
		return tried, nil
	}
	reaching = slices.DeleteFunc(reaching, func(one test) bool { return !among(one) })
	by := namesOf(reaching)
	if j.kept.find(key, &tried, by) {
		return tried, nil
	}
	if len(reaching) > 0 {
		var err error
		if tried.verdict, tried.by, err = j.try(ctx, made, reaching, one.number); err != nil {
			return tried, err
		}
	}
	return tried, j.kept.add(key, tried, by)
}

func (*judge) key(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:12])
}

func (t judged) say(at, of int) {
	fmt.Printf("%d/%d %s %s %s: %s %s\n", at+1, of, t.verdict, t.file, t.function, t.what, t.by)
}

// killer is the test that failed, or what else ended the program.
func killer(output string) string {
	running := ""
	for line := range strings.Lines(output) {
		if _, rest, found := strings.Cut(line, "--- FAIL: "); found {
			name, _, _ := strings.Cut(rest, " ")
			return "by " + name
		}
		if name, found := strings.CutPrefix(line, "=== RUN   "); found {
			running, _, _ = strings.Cut(strings.TrimSpace(name), "/")
		}
	}
	return "by the end of the program in " + running
}
