// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the documentation")

// TestReasonsAreDocumented: docs/conditions.md is written from the constants and their comments, so
// that every reason is in it and none that is not there.
func TestReasonsAreDocumented(t *testing.T) {
	const path = "../../docs/conditions.md"
	text := "# Conditions, reasons and events\n\n" +
		"Written by `go test ./api/v1alpha1 -update` from api/v1alpha1/conditions.go; do not edit.\n\n" +
		"Conditions follow kstatus: `Ready` is always there; `Reconciling` while something moves and `Stalled` when somebody must act are there only when they are True, and never together. All three have the same reason and message. A reason marked event is that of a Kubernetes event on the Canary, and of notifications.\n\n" +
		"| reason | where | meaning |\n|---|---|---|\n" + strings.Join(reasons(t), "\n") + "\n"
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, text, string(page), "run go test ./api/v1alpha1 -update and commit")
}

// reasons are the constants named Reason..., each with a comment "where: meaning".
func reasons(t *testing.T) (rows []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "conditions.go", nil, parser.ParseComments)
	require.NoError(t, err)
	ast.Inspect(file, func(node ast.Node) bool {
		constant, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(constant.Names[0].Name, "Reason") {
			return true
		}
		value, err := strconv.Unquote(constant.Values[0].(*ast.BasicLit).Value)
		require.NoError(t, err)
		require.Equal(t, "Reason"+value, constant.Names[0].Name)
		where, meaning, found := strings.Cut(strings.TrimSpace(constant.Comment.Text()), ": ")
		require.True(t, found, "%s needs a comment: where: meaning", value)
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |", value, where, meaning))
		return true
	})
	slices.Sort(rows)
	return rows
}
