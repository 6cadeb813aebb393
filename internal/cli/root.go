// SPDX-License-Identifier: Apache-2.0

// Package cli wires the packages of Sluice into commands, one file per command.
//
// It must not decide anything: flags become the options of a package, the package's answer becomes
// output and an exit code. Flags live in structs that belong to one run of one command.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	exitOK    = 0
	exitError = 1
)

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Execute runs the command that the arguments name and returns the exit code.
func Execute(ctx context.Context, streams Streams, arguments []string) int {
	return execute(ctx, newRoot(dial), streams, arguments)
}

func execute(ctx context.Context, root *cobra.Command, streams Streams, arguments []string) int {
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	root.SetArgs(arguments)
	if err := root.ExecuteContext(ctx); err != nil {
		_, _ = fmt.Fprintf(streams.Err, "sluice: %v\n", err)
		if coded := (*codeError)(nil); errors.As(err, &coded) {
			return coded.code
		}
		return exitError
	}
	return exitOK
}

func newRoot(dial dialer) *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Release new versions of Kubernetes workloads a few requests at a time",
		Args:  cobra.NoArgs,
		// Errors are printed once, by Execute, and a wrong flag is not answered with a page of help.
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(
		newInstall(),
		newUninstall(),
		newGet(dial),
		newStatus(dial),
		newHistory(dial),
		newWait(dial),
		newApprove(dial),
		newController(),
		newMesh(),
		newSimulate(),
		newBacktest(time.Now),
		newVersion(),
	)
	for _, what := range asks() {
		root.AddCommand(newAsk(dial, what))
	}
	return root
}
