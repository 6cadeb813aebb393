// SPDX-License-Identifier: Apache-2.0

package main

const (
	// switchVariable chooses a mutant in a program that holds them all; 0 is none.
	switchVariable = "SLUICE_MUTANT"
	// reachVariable names a file into which a program writes the mutants that would have made a
	// difference to what it did.
	reachVariable = "SLUICE_MUTANTS_REACHED"
)

// switchFile is added to the package. Its functions do what an operator does, or what its mutant does.
const switchFile = `package %s

import (
	"cmp"
	"os"
	"strconv"
	"sync/atomic"
)

var (
	mutant, _     = strconv.Atoi(os.Getenv(%q))
	mutantFile, _ = os.OpenFile(os.Getenv(%q), os.O_APPEND|os.O_WRONLY, 0)
	mutantReached [%d]atomic.Bool
)

func mutantReach(number int) {
	if mutantFile != nil && !mutantReached[number].Swap(true) {
		mutantFile.WriteString(strconv.Itoa(number) + "\n")
	}
}

func mutantOn(number int) bool {
	mutantReach(number)
	return mutant == number
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
