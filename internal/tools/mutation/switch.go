// SPDX-License-Identifier: Apache-2.0

package main

// switchFile is added to the package. Its functions do what an operator does, or what its mutant does.
const switchFile = `package %s

import (
	"cmp"
	"sync/atomic"
)

var (
	mutant        atomic.Int64
	mutantReached [%d]atomic.Bool
)

// MutantSwitch turns one mutant on, 0 none, and says which would have made a difference since the last.
func MutantSwitch(number int) (reached []int) {
	mutant.Store(int64(number))
	for i := range mutantReached {
		if mutantReached[i].Load() {
			mutantReached[i].Store(false)
			reached = append(reached, i)
		}
	}
	return reached
}

func mutantOn(number int) bool {
	if !mutantReached[number].Load() {
		mutantReached[number].Store(true)
	}
	return mutant.Load() == int64(number)
}

func mutantLess[T cmp.Ordered](number int, a, b T) bool {
	return a < b || a == b && mutantOn(number)
}

func mutantLessEqual[T cmp.Ordered](number int, a, b T) bool {
	return a < b || a == b && !mutantOn(number)
}

func mutantGreater[T cmp.Ordered](number int, a, b T) bool { return mutantLess(number, b, a) }

func mutantGreaterEqual[T cmp.Ordered](number int, a, b T) bool {
	return mutantLessEqual(number, b, a)
}

// What the right side is worth when the operator does not ask for it is not known: it may do harm.

func mutantAnd(number int, a bool, b func() bool) bool {
	if !a {
		return mutantOn(number) && b()
	}
	if b() {
		return true
	}
	return mutantOn(number)
}

func mutantOr(number int, a bool, b func() bool) bool {
	if a {
		return !mutantOn(number) || b()
	}
	if !b() {
		return false
	}
	return !mutantOn(number)
}
`

// ordersVariable tells a program of tests that it gets orders on its standard input.
const ordersVariable = "SLUICE_MUTATION_ORDERS"

// mainFile is added to the tests of a package. Its program tries what it is told, one test after the
// other: most tests take less than to start a program. An order is a mutant, the processor time in
// milliseconds that the test may take, and the test. An answer is whether the test failed, the
// processor time in microseconds, whether the program goes on and, without a mutant, what was reached.
const mainFile = `package %s_test

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mutated %q
)

func TestMain(m *testing.M) {
	if os.Getenv(%q) == "" {
		os.Exit(m.Run())
	}
	debug.SetMaxStack(64 << 20)
	var end, ticks atomic.Int64
	go mutationWatch(&end, &ticks)
	answers := os.NewFile(3, "answers")
	if reached := mutated.MutantSwitch(0); len(reached) > 0 {
		fmt.Fprintln(answers, "mutants are reached before any test begins:", reached)
		os.Exit(1)
	}
	calm := runtime.NumGoroutine()
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		var number int
		var limit int64
		var name string
		if _, err := fmt.Sscan(orders.Text(), &number, &limit, &name); err != nil {
			panic(err)
		}
		if err := flag.Set("test.run", name); err != nil {
			panic(err)
		}
		mutated.MutantSwitch(number)
		began := mutationTime()
		ticks.Store(0)
		end.Store(began + limit*int64(time.Millisecond))
		failed := m.Run() != 0
		end.Store(0)
		took := mutationTime() - began
		reached := mutated.MutantSwitch(0)
		if number != 0 {
			reached = nil
		}
		for range 10 { // What a test closes may take a moment to end.
			if runtime.NumGoroutine() <= calm {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
		if number == 0 {
			calm = max(calm, runtime.NumGoroutine())
		}
		stays := runtime.NumGoroutine() <= calm
		fmt.Fprintf(answers, "%%t %%d %%t %%q\n", failed, took/1000, stays, fmt.Sprint(reached))
		if !stays {
			os.Exit(0)
		}
	}
}

// mutationWatch ends the program when a test takes too much processor time, or waits for ever. It
// counts its own ticks: the program may be stopped and may get little of the machine.
func mutationWatch(end, ticks *atomic.Int64) {
	for range time.Tick(100 * time.Millisecond) {
		at := end.Load()
		if at != 0 && (mutationTime() > at || ticks.Add(1) > 1200) {
			os.Exit(3)
		}
	}
}

func mutationTime() int64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return used.Utime.Nano() + used.Stime.Nano()
}
`
