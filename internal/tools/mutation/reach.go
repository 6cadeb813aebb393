// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// test is one test function, or one of its parts.
type test struct {
	pkg, name string
	// took is processor time without any change.
	took time.Duration
	// reached are the mutants that would make a difference to what it does.
	reached map[int]bool
	// kills counts the changes that it has noticed.
	kills int
}

// pattern chooses only this test.
func (t *test) pattern() string {
	var parts []string
	for part := range strings.SplitSeq(t.name, "/") {
		parts = append(parts, "^"+regexp.QuoteMeta(part)+"$")
	}
	return strings.Join(parts, "/")
}

// long is a test of which the parts are tried one by one: most changes are noticed by any of them.
const long = 50 * time.Millisecond

// measure runs each test once, without any change, to see how long it takes and what it reaches.
func (j *judge) measure(ctx context.Context, made *programs) error {
	for _, pkg := range j.packages {
		program, err := j.program(ctx, made, pkg)
		if err != nil {
			return err
		}
		names, err := list(ctx, program, pkg)
		if err != nil {
			return err
		}
		for i, name := range names {
			whole, a, err := j.measureOne(ctx, made, pkg, name)
			if err != nil {
				return err
			}
			if a.failed {
				return fmt.Errorf("%s of %s fails without any change: %s", name, pkg, j.output(pkg))
			}
			fmt.Printf("%d/%d %s reaches %d mutants (%s)\n", i+1, len(names), name, len(whole.reached), whole.took.Round(time.Millisecond))
			parts, err := j.parts(ctx, made, whole)
			if err != nil {
				return err
			}
			j.tests = append(j.tests, parts...)
		}
	}
	return nil
}

// list names the tests of a package.
func list(ctx context.Context, program, pkg string) ([]string, error) {
	command := exec.CommandContext(ctx, program, "-test.list=^Test")
	command.Dir = pkg
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("list the tests of %s: %w", pkg, err)
	}
	return strings.Fields(string(output)), nil
}

func (j *judge) measureOne(ctx context.Context, made *programs, pkg, name string) (*test, answer, error) {
	one := &test{pkg: pkg, name: name, took: 10 * time.Minute, reached: map[int]bool{}} // Nothing is known yet of how long it may take.
	a, err := j.ask(ctx, made, one, 0)
	one.took = max(time.Millisecond, a.took)
	for _, number := range a.reached {
		one.reached[number] = true
	}
	return one, a, err
}

// parts of a long test, if it has any and each passes alone.
func (j *judge) parts(ctx context.Context, made *programs, whole *test) ([]*test, error) {
	if whole.took < long || len(whole.reached) == 0 {
		return []*test{whole}, nil
	}
	program, err := j.program(ctx, made, whole.pkg)
	if err != nil {
		return nil, err
	}
	path, err := filepath.Abs(program)
	if err != nil {
		return nil, fmt.Errorf("find the tests of %s: %w", whole.pkg, err)
	}
	command := exec.CommandContext(ctx, path, "-test.short", "-test.v", "-test.run="+whole.pattern())
	command.Dir, command.Env = whole.pkg, os.Environ()
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("run %s of %s without any change: %w", whole.name, whole.pkg, err)
	}
	var parts []*test
	for line := range strings.Lines(string(output)) {
		name, isPart := strings.CutPrefix(strings.TrimSpace(line), "=== RUN   "+whole.name+"/")
		if !isPart || strings.Contains(name, "/") {
			continue
		}
		part, a, err := j.measureOne(ctx, made, whole.pkg, whole.name+"/"+name)
		if err != nil {
			return nil, err
		}
		if a.failed || part.took > whole.took/2 {
			return []*test{whole}, nil
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return []*test{whole}, nil
	}
	return parts, nil
}

// reaching are the tests to which a mutant may make a difference, in the order in which they are
// worth a try: those that cost little and have noticed much.
func (j *judge) reaching(number int) []*test {
	worth := func(one *test) time.Duration { return one.took / time.Duration(1+one.kills) }
	chosen := slices.DeleteFunc(slices.Clone(j.tests), func(one *test) bool { return !one.reached[number] })
	slices.SortStableFunc(chosen, func(a, b *test) int { return int(worth(a) - worth(b)) })
	return chosen
}

func (t *test) fullName() string { return t.pkg + "." + t.name }

func namesOf(tests []*test) []string {
	var names []string
	for _, one := range tests {
		names = append(names, one.fullName())
	}
	return names
}
