// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// TestDocs: docs/cli.md is written from the commands, so that it can say nothing else.
func TestDocs(t *testing.T) {
	var text strings.Builder
	text.WriteString("# The command line\n\n" +
		"Written by `go test ./internal/cli -run TestDocs -update` from the commands themselves; do not edit.\n\n" +
		"Commands take a Canary as `NAME` or `canary/NAME`. Colours are used on a terminal only, and not with `NO_COLOR`.\n" +
		"`sluice completion bash|zsh|fish|powershell` prints what your shell needs to complete commands and names.\n\n" +
		"Exit codes: 0 done, 1 any error; `sluice wait` has more.\n")
	commands := 0
	for _, command := range newRoot(dial).Commands() {
		commands++
		document(t, &text, command)
	}
	require.GreaterOrEqual(t, commands, 15)
	requireGolden(t, filepath.Join("..", "..", "docs", "cli.md"), text.String())
}

func document(t *testing.T, text *strings.Builder, command *cobra.Command) {
	t.Helper()
	require.NotEmpty(t, command.Short, command.Name())
	fmt.Fprintf(text, "\n## sluice %s\n\n%s.\n\n```\n%s\n```\n", command.Name(), command.Short, command.UseLine())
	if command.Long != "" {
		fmt.Fprintf(text, "\n```text\n%s\n```\n", command.Long)
	}
	var rows []string
	command.Flags().VisitAll(func(flag *pflag.Flag) {
		name := "`--" + flag.Name + "`"
		if flag.Shorthand != "" {
			name = "`-" + flag.Shorthand + "`, " + name
		}
		require.NotEmpty(t, flag.Usage, flag.Name)
		rows = append(rows, fmt.Sprintf("| %s | %s | %s |", name, strings.ReplaceAll(flag.Usage, "|", `\|`), flag.DefValue))
	})
	if len(rows) > 0 {
		fmt.Fprintf(text, "\n| flag | meaning | default |\n|---|---|---|\n%s\n", strings.Join(rows, "\n"))
	}
}
