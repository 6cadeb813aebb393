// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

type historyOptions struct {
	place
	verifyOptions
	verify bool
	output string
}

func newHistory(dial dialer) *cobra.Command {
	options := &historyOptions{place: place{dial: dial}}
	command := &cobra.Command{
		Use:   "history NAME [RUN]",
		Short: "List the runs of a Canary, or tell one, and verify their records",
		Long: `List the runs of a Canary, the newest first, or tell what happened in one.

With --verify, work out the hashes of all records again, check their signatures with the public keys
that the controller has published, and say up to which entry each record can be vouched for: that of
the highest head that was exported, in an event or in what --head repeats from a notification. Exit
code 1 says that a record is not what was written.`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: options.one,
		RunE: func(command *cobra.Command, arguments []string) error {
			return options.run(command.Context(), command.OutOrStdout(), arguments)
		},
	}
	flags := command.Flags()
	options.bind(flags)
	flags.StringVarP(&options.output, "output", "o", "", "json, yaml or markdown")
	flags.BoolVar(&options.verify, "verify", false, "check that the records are what was written")
	flags.StringArrayVar(&options.heads, "head", nil, "a head that was exported, as RUN=NUMBER:HASH; may be repeated")
	flags.StringVar(&options.keyFile, "public-keys", "", "file with public keys in PEM, instead of those in the cluster")
	flags.StringVar(&options.system, "system-namespace", defaultNamespace, "namespace of the control plane, where the public keys are")
	return command
}

func (o *historyOptions) run(ctx context.Context, out io.Writer, arguments []string) error {
	if err := checkFormat(o.output, formatJSON, formatYAML, formatMarkdown); err != nil {
		return err
	}
	if o.verify && o.output != "" {
		return fmt.Errorf("--verify prints a table: leave --output out")
	}
	opened, err := o.open()
	if err != nil {
		return err
	}
	runs, err := chosenRuns(ctx, opened, arguments)
	if err != nil {
		return err
	}
	switch {
	case o.verify:
		return o.verifyRuns(ctx, out, opened, runs)
	case o.output == formatMarkdown:
		_, err = io.WriteString(out, markdown(runs))
		return err
	case o.output != "" && len(arguments) == 2:
		return writeObject(out, o.output, &runs[0])
	case o.output != "":
		list := &v1alpha1.CanaryRunList{Items: runs}
		list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("CanaryRunList"))
		return writeObject(out, o.output, list)
	case len(arguments) == 2:
		return entryTable(out, &runs[0])
	}
	return runTable(out, opened, runs)
}

// chosenRuns are all runs of a Canary or the one that is named. The Canary itself may be gone.
func chosenRuns(ctx context.Context, opened *session, arguments []string) ([]v1alpha1.CanaryRun, error) {
	name, err := canaryName(arguments[0])
	if err != nil {
		return nil, err
	}
	runs, err := opened.runs(ctx, name)
	if err != nil {
		return nil, err
	}
	for i := range runs {
		runs[i].SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("CanaryRun"))
		runs[i].ManagedFields = nil
	}
	if len(arguments) == 1 {
		return runs, nil
	}
	for i := range runs {
		if runs[i].Name == arguments[1] {
			return runs[i : i+1], nil
		}
	}
	return nil, fmt.Errorf("find run %s: Canary %s/%s has none of that name; sluice history %s lists them", arguments[1], opened.namespace, name, name)
}

func runTable(out io.Writer, opened *session, runs []v1alpha1.CanaryRun) error {
	if len(runs) == 0 {
		_, err := fmt.Fprintln(out, "no runs found")
		return err
	}
	rows := [][]string{{"run", "kind", "outcome", "revision", "images", "age", "took", "why"}}
	for i := range runs {
		run := &runs[i]
		rows = append(rows, []string{
			run.Name, string(run.Spec.Kind), orUnderWay(run), revisionOf(run), images(run),
			ago(opened.now(), run.CreationTimestamp.Time), took(run), whyRejected(run),
		})
	}
	return writeTable(out, rows)
}

func entryTable(out io.Writer, run *v1alpha1.CanaryRun) error {
	rows := [][]string{{"#", "time", "phase", "weight", "what", "message"}}
	for i := range run.Record.Entries {
		entry := &run.Record.Entries[i]
		rows = append(rows, []string{
			fmt.Sprint(entry.Number), entry.Time.UTC().Format(time.RFC3339), string(entry.Phase), fmt.Sprint(entry.Weight),
			kindOf(entry), entry.Message,
		})
	}
	return writeTable(out, rows)
}

// kindOf says in few words what an entry is about.
func kindOf(entry *v1alpha1.RunEntry) string {
	switch {
	case entry.Request != nil:
		return strings.TrimSpace("asked: " + entry.Request.Action + " " + entry.Request.By)
	case entry.Approval != nil:
		return "approved by " + entry.Approval.Username
	case entry.Hook != nil:
		return fmt.Sprintf("hook %s: %d", entry.Hook.Name, entry.Hook.Code)
	case entry.Measurement != nil:
		return "verdict " + entry.Measurement.Verdict
	case entry.Folded > 0:
		return fmt.Sprintf("%d folded", entry.Folded)
	case entry.Digest != "":
		return "summarised"
	}
	return "transition"
}

func orUnderWay(run *v1alpha1.CanaryRun) string {
	if run.Record.Outcome == "" {
		return "under way"
	}
	return string(run.Record.Outcome)
}

func revisionOf(run *v1alpha1.CanaryRun) string {
	if run.Spec.Source == nil {
		return "-"
	}
	return orDash(run.Spec.Source.Revision)
}

// images are those that the run changes.
func images(run *v1alpha1.CanaryRun) string {
	var changed []string
	for _, name := range slices.Sorted(maps.Keys(run.Spec.Candidate.Images)) {
		if image := run.Spec.Candidate.Images[name]; image != run.Spec.Stable.Images[name] {
			changed = append(changed, image)
		}
	}
	return orDash(strings.Join(changed, ","))
}

func took(run *v1alpha1.CanaryRun) string {
	if run.Record.EndedAt == nil {
		return "-"
	}
	return ago(run.Record.EndedAt.Time, run.CreationTimestamp.Time)
}

// markdown tells runs for a report or a ticket.
func markdown(runs []v1alpha1.CanaryRun) string {
	var text strings.Builder
	for i := range runs {
		run := &runs[i]
		fmt.Fprintf(&text, "## Run %s: %s\n\n", run.Name, orUnderWay(run))
		fmt.Fprintf(&text, "- workload: %s %s/%s\n", run.Spec.TargetRef.Kind, run.Namespace, run.Spec.TargetRef.Name)
		fmt.Fprintf(&text, "- from %s to %s (%s)\n", run.Spec.Stable.ReplicaSet, run.Spec.Candidate.ReplicaSet, cell(images(run)))
		if source := run.Spec.Source; source != nil {
			fmt.Fprintf(&text, "- revision %s, author %s, by %s\n", cell(orDash(source.Revision)), cell(orDash(source.Author)), source.Tool)
		}
		fmt.Fprintf(&text, "- began %s, ended %s\n", stampText(&run.CreationTimestamp), stampText(run.Record.EndedAt))
		if head := run.Record.Head; head != nil {
			fmt.Fprintf(&text, "- head %d:%s, key %s\n", head.Number, head.Hash, orDash(head.KeyID))
		}
		text.WriteString("\n| # | time | phase | weight | what | message |\n|---|---|---|---|---|---|\n")
		for j := range run.Record.Entries {
			entry := &run.Record.Entries[j]
			fmt.Fprintf(&text, "| %d | %s | %s | %d | %s | %s |\n", entry.Number, stampText(&entry.Time), entry.Phase, entry.Weight, cell(kindOf(entry)), cell(entry.Message))
		}
		text.WriteString("\n")
	}
	return text.String()
}

// cell keeps text from leaving its cell or becoming markup.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", "[", `\[`, "`", "\\`", "*", `\*`, "_", `\_`).Replace(text)
}

func stampText(at *metav1.Time) string {
	if at == nil || at.IsZero() {
		return "-"
	}
	return at.UTC().Format(time.RFC3339)
}
