// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	// unbuilt changes are no programs; they count for nothing.
	unbuilt verdict = "does not compile"
)

type judged struct {
	file, what string
	verdict    verdict
	// by is the first test that failed.
	by string
}

// judge tries changes by the tests of packages.
type judge struct {
	packages []string
	// limit of the processor time of one run of tests. Time on the clock says nothing on a machine that
	// does other things.
	limit time.Duration
	dir   string
	// stages are the tests in the order in which they are run: quick ones first.
	stages []stage
}

// stage is some tests of a package that are run together.
type stage struct {
	pkg, pattern string
	took         time.Duration
}

// quick tests are run together, each other by itself.
const quick = 300 * time.Millisecond

func newJudge(packages []string, limit time.Duration) (*judge, error) {
	dir, err := os.MkdirTemp("", "mutation-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	return &judge{packages: packages, limit: limit, dir: dir}, nil
}

func (j *judge) close() { _ = os.RemoveAll(j.dir) }

var errBuild = errors.New("it does not compile")

// build compiles the tests of a package with some files replaced.
func (j *judge) build(ctx context.Context, pkg string, files map[string]string) (program string, err error) {
	replace := map[string]string{}
	for path, content := range files {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return "", fmt.Errorf("find %s: %w", path, err)
		}
		replace[absolute] = filepath.Join(j.dir, filepath.Base(path))
		if err := os.WriteFile(replace[absolute], []byte(content), 0o600); err != nil {
			return "", fmt.Errorf("write a changed file: %w", err)
		}
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("encode the overlay: %w", err)
	}
	file := filepath.Join(j.dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return "", fmt.Errorf("write the overlay: %w", err)
	}
	directory, err := os.MkdirTemp(j.dir, "")
	if err != nil {
		return "", fmt.Errorf("make a directory: %w", err)
	}
	program = filepath.Join(directory, filepath.Base(pkg)+".test")
	output, err := exec.CommandContext(ctx, "go", "test", "-trimpath", "-c", "-vet=off", "-overlay", file, "-o", program, pkg).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("%w: %s", errBuild, output)
	}
	if err != nil {
		return "", fmt.Errorf("build the tests of %s: %w", pkg, err)
	}
	return program, nil
}

// tests are the programs of one change, built when they are needed.
type tests struct {
	files map[string]string
	built map[string]string
}

func (j *judge) program(ctx context.Context, t *tests, pkg string) (string, error) {
	if program, built := t.built[pkg]; built {
		return program, nil
	}
	program, err := j.build(ctx, pkg, t.files)
	if err == nil {
		t.built[pkg] = program
	}
	return program, err
}

// run runs tests of a package, with a mutant switched on, until one fails.
func (j *judge) run(ctx context.Context, program string, s stage, number int) (output string, failed bool, err error) {
	command := exec.CommandContext(ctx, "/bin/sh", "-c", fmt.Sprintf(`ulimit -t %d; exec "$0" "$@"`, int(j.limit.Seconds())),
		program, "-test.v", "-test.short", "-test.failfast", "-test.timeout=0", "-test.run="+s.pattern)
	command.Dir = s.pkg
	command.Env = append(os.Environ(), switchVariable+"="+strconv.Itoa(number))
	text, err := command.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return string(text), false, nil
	case !errors.As(err, &exit) || ctx.Err() != nil:
		return "", false, fmt.Errorf("run the tests of %s: %w", s.pkg, errors.Join(err, ctx.Err()))
	}
	return string(text), true, nil
}

// measure runs all tests once, without any change, and makes the stages of how long each took.
func (j *judge) measure(ctx context.Context, made *tests) error {
	for _, pkg := range j.packages {
		program, err := j.program(ctx, made, pkg)
		if err != nil {
			return err
		}
		output, failed, err := j.run(ctx, program, stage{pkg: pkg, pattern: "."}, 0)
		if err != nil {
			return err
		}
		if failed {
			return fmt.Errorf("the tests of %s fail without any change, %s", pkg, killer(output))
		}
		j.stages = append(j.stages, stagesOf(pkg, output)...)
	}
	slices.SortStableFunc(j.stages, func(a, b stage) int { return cmp.Compare(a.took, b.took) })
	return nil
}

// stagesOf sorts the tests of a package by what their output says.
func stagesOf(pkg, output string) []stage {
	together := stage{pkg: pkg}
	var names []string
	var stages []stage
	for line := range strings.Lines(output) {
		name, rest, found := strings.Cut(strings.TrimPrefix(line, "--- PASS: "), " ")
		if !found || !strings.HasPrefix(line, "--- PASS: ") {
			continue
		}
		took, err := time.ParseDuration(strings.Trim(strings.TrimSpace(rest), "()"))
		if err == nil && took > quick {
			stages = append(stages, stage{pkg, "^" + name + "$", took})
			continue
		}
		names = append(names, name)
	}
	if together.pattern = "^(" + strings.Join(names, "|") + ")$"; len(names) > 0 {
		stages = append(stages, together)
	}
	return stages
}

// try runs the stages until one fails.
func (j *judge) try(ctx context.Context, made *tests, number int) (verdict, string, error) {
	for _, s := range j.stages {
		program, err := j.program(ctx, made, s.pkg)
		if errors.Is(err, errBuild) {
			return unbuilt, "", nil
		}
		if err != nil {
			return "", "", err
		}
		output, failed, err := j.run(ctx, program, s, number)
		if err != nil {
			return "", "", err
		}
		if failed {
			return killed, killer(output), nil
		}
	}
	return survived, "", nil
}

// faults tries each fault, which is a program of its own.
func (j *judge) faults(ctx context.Context, list []fault) (all []judged, err error) {
	for i, f := range list {
		began, tried := time.Now(), judged{file: f.File, what: f.Name}
		made := &tests{files: map[string]string{f.File: f.content}, built: map[string]string{}}
		if tried.verdict, tried.by, err = j.try(ctx, made, 0); err != nil {
			return nil, err
		}
		for _, program := range made.built {
			_ = os.RemoveAll(filepath.Dir(program))
		}
		all = append(all, tried)
		tried.say(i, len(list), began)
	}
	return all, nil
}

// mutants tries some of the mutants that are compiled into one program for each package.
func (j *judge) mutants(ctx context.Context, made *tests, chosen []mutant) (all []judged, err error) {
	for i, one := range chosen {
		began, tried := time.Now(), judged{file: one.file, what: one.what}
		if tried.verdict, tried.by, err = j.try(ctx, made, one.number); err != nil {
			return nil, err
		}
		all = append(all, tried)
		tried.say(i, len(chosen), began)
	}
	return all, nil
}

func (t judged) say(at, of int, began time.Time) {
	fmt.Printf("%d/%d %s %s: %s %s (%s)\n", at+1, of, t.verdict, t.file, t.what, t.by, time.Since(began).Round(100*time.Millisecond))
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
