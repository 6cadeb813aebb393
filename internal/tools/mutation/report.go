// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

type result struct {
	faults, mutants []judged
	// possible is how many mutants there are of which a sample was tried.
	possible int
	reasons  map[string]string
	tests    string
	seed     uint64
}

func (r *result) missed() int { return count(r.faults, survived) + count(r.faults, unbuilt) }

func count(list []judged, v verdict) int {
	found := 0
	for _, one := range list {
		if one.verdict == v {
			found++
		}
	}
	return found
}

// rate is the share of mutants that compile and are killed, in percent.
func (r *result) rate() float64 {
	dead, alive := count(r.mutants, killed), count(r.mutants, survived)
	if dead+alive == 0 {
		return 100
	}
	return 100 * float64(dead) / float64(dead+alive)
}

func (r *result) markdown() string {
	text := &strings.Builder{}
	fmt.Fprintf(text, "# Do the tests of the plan notice faults?\n\nWritten by `make mutation`, with the tests of %s.\n\n", "`"+strings.ReplaceAll(r.tests, ",", "`, `")+"`")
	fmt.Fprintf(text, "## Deliberate faults\n\n%d of %d are caught.\n\n| fault | file | |\n|---|---|---|\n", count(r.faults, killed), len(r.faults))
	for _, one := range r.faults {
		fmt.Fprintf(text, "| %s | %s | %s %s |\n", one.what, one.file, one.verdict, one.by)
	}
	fmt.Fprintf(text, "\n## Mutants\n\n%d of the %d possible ones were tried (sample %d): %d killed, %d survived, %d do not compile. Killed of those that compile: **%.1f %%**.\n",
		len(r.mutants), r.possible, r.seed, count(r.mutants, killed), count(r.mutants, survived), count(r.mutants, unbuilt), r.rate())
	if count(r.mutants, survived) == 0 {
		return text.String()
	}
	text.WriteString("\n| survivor | file | why it may |\n|---|---|---|\n")
	for _, one := range r.mutants {
		if one.verdict != survived {
			continue
		}
		reason := r.reasons[one.file+": "+one.what]
		if reason == "" {
			reason = "not looked at yet"
		}
		fmt.Fprintf(text, "| %s | %s | %s |\n", strings.ReplaceAll(one.what, "|", "\\|"), one.file, reason)
	}
	return text.String()
}
