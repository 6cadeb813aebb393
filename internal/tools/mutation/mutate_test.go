// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

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
	made, err := mutate([]string{path})
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
	judge := &judge{packages: []string{"."}, limit: limit, dir: t.TempDir()}
	all := &tests{files: made.files, built: map[string]string{}}
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
}
