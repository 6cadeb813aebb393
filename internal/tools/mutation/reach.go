// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// test is one test function.
type test struct {
	pkg, name string
	// took is processor time without any change.
	took time.Duration
	// reached are the mutants that would make a difference to what it does.
	reached map[int]bool
}

// stage is some tests of a package that are run together.
type stage struct {
	pkg   string
	names []string
	took  time.Duration
}

// least of processor time that tests take together, so that starting a program is not the most of it.
const least = 100 * time.Millisecond

// measure runs each test once, without any change, to see how long it takes and what it reaches.
func (j *judge) measure(ctx context.Context, made *programs) error {
	for _, pkg := range j.packages {
		program, err := j.program(ctx, made, pkg)
		if err != nil {
			return err
		}
		names, starts, err := j.list(ctx, program, pkg)
		if err != nil {
			return err
		}
		for i, name := range names {
			one, err := j.measureOne(ctx, program, pkg, name)
			if err != nil {
				return err
			}
			one.took = max(time.Millisecond, one.took-starts)
			fmt.Printf("%d/%d %s reaches %d mutants (%s)\n", i+1, len(names), name, len(one.reached), one.took.Round(10*time.Millisecond))
			j.tests = append(j.tests, one)
		}
	}
	slices.SortStableFunc(j.tests, func(a, b test) int { return cmp.Compare(a.took, b.took) })
	return nil
}

// list names the tests of a package, and says what it costs to start their program.
func (j *judge) list(ctx context.Context, program, pkg string) (names []string, starts time.Duration, err error) {
	command := j.command(ctx, program, stage{pkg: pkg})
	command.Args = append(command.Args, "-test.list=^Test")
	output, failed, err := j.run(ctx, command)
	if err != nil || failed {
		return nil, 0, fmt.Errorf("list the tests of %s: %w %s", pkg, err, output)
	}
	return strings.Fields(output), processorTime(command), nil
}

func (j *judge) measureOne(ctx context.Context, program, pkg, name string) (test, error) {
	one := test{pkg: pkg, name: name, reached: map[int]bool{}}
	path := filepath.Join(j.dir, "reached")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return one, fmt.Errorf("make the file of what is reached: %w", err)
	}
	// Nothing is known yet of how long it may take.
	alone := stage{pkg: pkg, names: []string{name}, took: 10 * time.Minute}
	command := j.command(ctx, program, alone, reachVariable+"="+path)
	output, failed, err := j.run(ctx, command)
	if err != nil {
		return one, err
	}
	if failed {
		return one, fmt.Errorf("the tests of %s fail without any change, %s", pkg, killer(output))
	}
	one.took = processorTime(command)
	content, err := os.ReadFile(path)
	if err != nil {
		return one, fmt.Errorf("read what %s reaches: %w", name, err)
	}
	for _, word := range strings.Fields(string(content)) {
		number, err := strconv.Atoi(word)
		if err != nil {
			return one, fmt.Errorf("read what %s reaches: %w", name, err)
		}
		one.reached[number] = true
	}
	return one, nil
}

func processorTime(ended *exec.Cmd) time.Duration {
	return ended.ProcessState.UserTime() + ended.ProcessState.SystemTime()
}

// reaching are the tests to which a mutant may make a difference.
func (j *judge) reaching(number int) []test {
	return slices.DeleteFunc(slices.Clone(j.tests), func(one test) bool { return !one.reached[number] })
}

func namesOf(tests []test) string {
	var names []string
	for _, one := range tests {
		names = append(names, one.pkg+"."+one.name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// stagesOf puts tests together, cheap ones first, each time as much as was spent before: most changes
// are noticed by any test.
func stagesOf(tests []test) (stages []stage) {
	spent := time.Duration(0)
	for len(tests) > 0 {
		budget, together := max(least, spent), []stage{}
		for len(tests) > 0 && (len(together) == 0 || budget > 0) {
			one := tests[0]
			at := slices.IndexFunc(together, func(s stage) bool { return s.pkg == one.pkg })
			if at < 0 {
				at, together = len(together), append(together, stage{pkg: one.pkg})
			}
			together[at].names, together[at].took = append(together[at].names, one.name), together[at].took+one.took
			budget, spent, tests = budget-one.took, spent+one.took, tests[1:]
		}
		stages = append(stages, together...)
	}
	return stages
}
