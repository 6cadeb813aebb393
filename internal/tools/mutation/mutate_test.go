// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const source = `package sample

func within(a, b int, open bool) bool {
	if a < b && (open || a == 0) {
		note(a > 1)
		return true
	}
	return false
}

func note(bool) {}
`

func sample(t *testing.T) (directory string, made *mutants) {
	t.Helper()
	directory = t.TempDir()
	path := filepath.Join(directory, "sample.go")
	require.NoError(t, os.WriteFile(path, []byte(source), 0o600))
	made, err := mutate([]string{path}, []fault{{Name: "a fault", File: path, Old: "open ||", New: "!open ||"}})
	require.NoError(t, err)
	return directory, made
}

func TestMutantsSayWhatTheyAre(t *testing.T) {
	_, made := sample(t)
	var said []string
	for i, one := range made.all {
		require.Equal(t, i+1, one.number)
		said = append(said, one.what)
	}
	require.ElementsMatch(t, []string{
		"`note(a > 1)` is left out",
		"`a < b && (open || a == 0)` becomes `!(a < b && (open || a == 0))` in `if a < b && (open || a == 0) {`",
		"`&&` becomes `||` in `if a < b && (open || a == 0) {`",
		"`<` becomes `<=` in `if a < b && (open || a == 0) {`",
		"`||` becomes `&&` in `if a < b && (open || a == 0) {`",
		"`==` becomes `!=` in `if a < b && (open || a == 0) {`",
		"`>` becomes `>=` in `note(a > 1)`",
		"`true` becomes `false` in `return true`",
		"`false` becomes `true` in `return false`",
	}, said)
}

// Each mutant is noticed by a test that knows the whole table, and none of them is on by itself.
func TestMutantsAreSwitched(t *testing.T) {
	directory, made := sample(t)
	for name, content := range map[string]string{
		"go.mod": "module sample\n\ngo 1.26\n",
		"sample_test.go": `package sample

import "testing"

func TestWithin(t *testing.T) {
	for a := range 3 {
		for b := range 3 {
			for _, open := range []bool{false, true} {
				want := false
				if a < b && (open || a == 0) {
					want = true
				}
				if within(a, b, open) != want {
					t.Fatal(a, b, open)
				}
			}
		}
	}
}
`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600))
	}
	t.Chdir(directory)
	for path, content := range made.files {
		delete(made.files, path)
		made.files[filepath.Base(path)] = content
	}
	judge := &judge{packages: []string{"."}, limit: limit, dir: t.TempDir(), kept: &kept{}}
	all := made.programs()
	require.NoError(t, judge.measure(t.Context(), all))
	tried, err := judge.mutants(t.Context(), all, made.all)
	require.NoError(t, err)
	for _, one := range tried {
		want := killed
		if one.what == "`note(a > 1)` is left out" || one.what == "`>` becomes `>=` in `note(a > 1)`" {
			want = survived // it does nothing
		}
		require.Equal(t, want, one.verdict, one.what)
	}
	require.Equal(t, "by TestWithin", tried[0].by)
	faults, err := judge.faults(t.Context(), all, []fault{{Name: "a fault", number: len(made.all) + 1}})
	require.NoError(t, err)
	require.Equal(t, []judged{{what: "a fault", verdict: killed, by: "by TestWithin"}}, faults)
}

// A mutant to which no test comes, or only with values to which it makes no difference, costs no test.
func TestMutantsThatNoTestReaches(t *testing.T) {
	directory, made := sample(t)
	for name, content := range map[string]string{
		"go.mod": "module sample\n\ngo 1.26\n",
		"sample_test.go": `package sample

import "testing"

func TestWithin(t *testing.T) {
	if within(2, 1, true) {
		t.Fatal("2 is not less than 1")
	}
}
`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600))
	}
	t.Chdir(directory)
	for path, content := range made.files {
		delete(made.files, path)
		made.files[filepath.Base(path)] = content
	}
	kept, err := openKept("kept.jsonl")
	require.NoError(t, err)
	judge := &judge{packages: []string{"."}, limit: limit, dir: t.TempDir(), kept: kept}
	all := made.programs()
	require.NoError(t, judge.measure(t.Context(), all))
	tried, err := judge.mutants(t.Context(), all, made.all)
	require.NoError(t, err)
	found := map[string]verdict{}
	for _, one := range tried {
		found[one.what] = one.verdict
	}
	require.Equal(t, map[string]verdict{
		"`a < b && (open || a == 0)` becomes `!(a < b && (open || a == 0))` in `if a < b && (open || a == 0) {`": killed,
		"`&&` becomes `||` in `if a < b && (open || a == 0) {`":                                                  killed,
		"`false` becomes `true` in `return false`":                                                               killed,
		"`<` becomes `<=` in `if a < b && (open || a == 0) {`":                                                   unreached,
		"`||` becomes `&&` in `if a < b && (open || a == 0) {`":                                                  unreached,
		"`==` becomes `!=` in `if a < b && (open || a == 0) {`":                                                  unreached,
		"`note(a > 1)` is left out":                                                                              unreached,
		"`>` becomes `>=` in `note(a > 1)`":                                                                      unreached,
		"`true` becomes `false` in `return true`":                                                                unreached,
	}, found)

	kept.close()
	again, err := openKept("kept.jsonl")
	require.NoError(t, err)
	t.Cleanup(again.close)
	require.Len(t, again.before, len(made.all))
	judge.kept, judge.tests = again, nil
	known, err := judge.mutants(t.Context(), nil, made.all)
	require.NoError(t, err, "what was killed is known")
	require.Equal(t, tried[1].verdict, known[1].verdict)
}

func TestStagesGrow(t *testing.T) {
	list := []test{
		{pkg: "a", name: "One", took: time.Millisecond}, {pkg: "b", name: "Two", took: time.Millisecond},
		{pkg: "a", name: "Three", took: least}, {pkg: "a", name: "Four", took: 10 * least}, {pkg: "a", name: "Five", took: 20 * least},
	}
	require.Equal(t, []stage{
		{"a", []string{"One", "Three"}, least + time.Millisecond}, {"b", []string{"Two"}, time.Millisecond},
		{"a", []string{"Four"}, 10 * least}, {"a", []string{"Five"}, 20 * least},
	}, stagesOf(list))
	require.Empty(t, stagesOf(nil))
}

func TestReport(t *testing.T) {
	r := &result{possible: 300, seed: 7, tests: "./a,./b", reasons: map[string]string{"f.go g: `x` is left out": "nobody sees it"}}
	for range 90 {
		r.mutants = append(r.mutants, judged{"f.go", "g", "`y` is left out", killed, "by TestY"})
	}
	for range 9 {
		r.mutants = append(r.mutants, judged{"f.go", "g", "`||` becomes `&&`", unreached, ""})
	}
	r.mutants = append(r.mutants, judged{"f.go", "g", "`x` is left out", survived, ""})
	low, high := r.interval()
	require.InDelta(t, 82.6, low, 0.1)
	require.InDelta(t, 94.5, high, 0.1)
	text := r.markdown()
	require.Contains(t, text, "100 of the 300 possible ones were tried: 90 killed, 1 survived, 9 reached by no test")
	require.Contains(t, text, "**90.0 %** (sample 7; of all, with a confidence of 95 %, 82.6 to 94.5 %)")
	require.Contains(t, text, "| f.go | 90 | 10 | 90 |")
	require.Contains(t, text, "| `x` is left out | f.go g | nobody sees it |")
	require.Contains(t, text, "| `\\|\\|` becomes `&&` | f.go g | not looked at yet |")
	require.Empty(t, r.needless(), "not all were tried")
	r.possible, r.reasons = len(r.mutants), map[string]string{"f.go g: `y` is left out": "?", "f.go g: `x` is left out": "nobody sees it"}
	require.Equal(t, []string{"f.go g: `y` is left out"}, r.needless())
}
