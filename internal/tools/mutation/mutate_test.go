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

func newTestJudge(t *testing.T, kept *kept) *judge {
	t.Helper()
	judge, err := newJudge([]string{"."}, limit, kept)
	require.NoError(t, err)
	t.Cleanup(judge.close)
	return judge
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
	kept, err := openKept("")
	require.NoError(t, err)
	judge := newTestJudge(t, kept)
	all := newPrograms(".", made.files)
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
	judge := newTestJudge(t, kept)
	all := newPrograms(".", made.files)
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
	require.Len(t, again.before, 3, "what no test reaches costs nothing")
	judge.kept, judge.tests = again, nil
	known, err := judge.mutants(t.Context(), nil, made.all)
	require.NoError(t, err, "what was killed is known")
	require.Equal(t, tried[1].verdict, known[1].verdict)
}

// Parts are tried one by one; what ends the program, or never ends, is noticed, and the next is tried by
// another program. A test that fails because of what was tried before proves nothing.
func TestProgramsEnd(t *testing.T) {
	directory := t.TempDir()
	for name, content := range map[string]string{
		"go.mod": "module sample\n\ngo 1.26\n",
		"sample.go": `package sample

type counter struct{ left int }

func (c *counter) down() (calls int) {
	for c.left != 0 {
		calls++
		c.left = c.left - 1
	}
	return calls
}

func first(list []int) int {
	if len(list) == 0 {
		return 0
	}
	return list[0]
}

func broken(set bool) bool { return set && false }
`,
		"sample_test.go": `package sample

import "testing"

var spins int

func TestParts(t *testing.T) {
	for _, name := range []string{"one", "two words", "three"} {
		t.Run(name, func(t *testing.T) {
			for range 200_000_000 { // longer than it takes to begin, however quick the processor
				spins++
			}
			if c := (&counter{3}); name == "three" && c.down() != 3 {
				t.Fatal("not 3")
			}
		})
	}
}

func TestFirst(t *testing.T) {
	if first(nil) != 0 {
		t.Fatal("not 0")
	}
}

var spoiled bool

func TestSpoils(t *testing.T) { spoiled = spoiled || broken(true) }

func TestIsSpoiled(t *testing.T) {
	if broken(false); spoiled {
		t.Fatal("spoiled")
	}
}
`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600))
	}
	t.Chdir(directory)
	made, err := mutate([]string{"sample.go"}, nil)
	require.NoError(t, err)
	kept, err := openKept("")
	require.NoError(t, err)
	judge := newTestJudge(t, kept)
	all := newPrograms(".", made.files)
	require.NoError(t, judge.measure(t.Context(), all))
	require.Equal(t, []string{"..TestParts/one", "..TestParts/two_words", "..TestParts/three", "..TestFirst", "..TestSpoils", "..TestIsSpoiled"}, namesOf(judge.tests))
	judge.limit = 100 * time.Millisecond
	tried, err := judge.mutants(t.Context(), all, made.all)
	require.NoError(t, err)
	found := map[string]string{}
	for _, one := range tried {
		found[one.what] = string(one.verdict) + " " + one.by
	}
	require.Equal(t, map[string]string{
		"`!=` becomes `==` in `for c.left != 0 {`":                                  "killed by TestParts/three",
		"`c.left = c.left - 1` is left out":                                         "killed by the end of the program in TestParts/three",
		"`==` becomes `!=` in `if len(list) == 0 {`":                                "killed by the end of the program in TestFirst",
		"`&&` becomes `||` in `func broken(set bool) bool { return set && false }`": "survived ",
	}, found)
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
