// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"
)

type result struct {
	faults, mutants []judged
	// possible is how many mutants there are of which a sample was tried.
	possible int
	reasons  map[string]string
	tests    string
	seed     uint64
	began    time.Time
}

func (r *result) missed() int { return len(r.faults) - count(r.faults, killed) }

func count(list []judged, verdicts ...verdict) int {
	found := 0
	for _, one := range list {
		if slices.Contains(verdicts, one.verdict) {
			found++
		}
	}
	return found
}

func (r *result) dead() int  { return count(r.mutants, killed) }
func (r *result) alive() int { return count(r.mutants, survived, unreached) }

// rate is the share of mutants that are killed, in percent.
func (r *result) rate() float64 {
	if r.dead()+r.alive() == 0 {
		return 100
	}
	return 100 * float64(r.dead()) / float64(r.dead()+r.alive())
}

// interval is where the rate of all mutants is with a confidence of 95 %, by Wilson's score.
func (r *result) interval() (low, high float64) {
	const z = 1.96
	n := float64(r.dead() + r.alive())
	if n == 0 {
		return 0, 100
	}
	p := float64(r.dead()) / n
	middle, width := p+z*z/(2*n), z*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return 100 * (middle - width) / (1 + z*z/n), 100 * (middle + width) / (1 + z*z/n)
}

// name is what reasons call a mutant.
func (t judged) name() string { return fmt.Sprintf("%s %s: %s", t.file, t.function, t.what) }

// survivors in the order of their names.
func (r *result) survivors() []judged {
	list := slices.DeleteFunc(slices.Clone(r.mutants), func(one judged) bool { return one.verdict != survived && one.verdict != unreached })
	slices.SortStableFunc(list, func(a, b judged) int { return cmp.Compare(a.name(), b.name()) })
	return list
}

// needless are reasons for mutants that were killed or that there are no more, once all were tried.
func (r *result) needless() []string {
	if len(r.mutants) < r.possible {
		return nil
	}
	needless := maps.Clone(r.reasons)
	for _, one := range r.survivors() {
		delete(needless, one.name())
	}
	return slices.Sorted(maps.Keys(needless))
}

func (r *result) markdown() string {
	text := &strings.Builder{}
	fmt.Fprintf(text, "# Do the tests of the plan notice faults?\n\nWritten by `make mutation` on %s, %s/%s, %s, with the tests of %s.\n\n",
		r.began.UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.Version(), "`"+strings.ReplaceAll(r.tests, ",", "`, `")+"`")
	fmt.Fprintf(text, "## Deliberate faults\n\n%d of %d are caught.\n\n| fault | file | |\n|---|---|---|\n", count(r.faults, killed), len(r.faults))
	for _, one := range r.faults {
		fmt.Fprintf(text, "| %s | %s | %s %s |\n", one.what, one.file, one.verdict, one.by)
	}
	fmt.Fprintf(text, "\n## Mutants\n\nA mutant is the plan with one operator swapped, one condition turned around, one returned truth turned around, or one call or assignment left out. "+
		"%d of the %d possible ones were tried: %d killed, %d survived, %d reached by no test. Killed: **%.1f %%**",
		len(r.mutants), r.possible, r.dead(), count(r.mutants, survived), count(r.mutants, unreached), r.rate())
	if len(r.mutants) < r.possible {
		low, high := r.interval()
		fmt.Fprintf(text, " (sample %d; of all, with a confidence of 95 %%, %.1f to %.1f %%)", r.seed, low, high)
	}
	text.WriteString(".\n")
	r.writeFiles(text)
	if r.alive() == 0 {
		return text.String()
	}
	text.WriteString("\n| survivor | in | why it may |\n|---|---|---|\n")
	for _, one := range r.survivors() {
		fmt.Fprintf(text, "| %s | %s %s | %s |\n", strings.ReplaceAll(one.what, "|", "\\|"), one.file, one.function, cmp.Or(r.reasons[one.name()], "not looked at yet"))
	}
	return text.String()
}

func (r *result) writeFiles(text *strings.Builder) {
	byFile := map[string]*result{}
	for _, one := range r.mutants {
		if byFile[one.file] == nil {
			byFile[one.file] = &result{}
		}
		byFile[one.file].mutants = append(byFile[one.file].mutants, one)
	}
	text.WriteString("\n| file | killed | left | % |\n|---|---|---|---|\n")
	for _, file := range slices.Sorted(maps.Keys(byFile)) {
		of := byFile[file]
		fmt.Fprintf(text, "| %s | %d | %d | %.0f |\n", file, of.dead(), of.alive(), of.rate())
	}
}
