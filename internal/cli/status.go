// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

type statusOptions struct {
	place
	watch  bool
	output string
}

func newStatus(dial dialer) *cobra.Command {
	options := &statusOptions{place: place{dial: dial}}
	command := &cobra.Command{
		Use:               "status NAME",
		Short:             "Say where a Canary's run stands and what it waits for",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: options.one,
		RunE: func(command *cobra.Command, arguments []string) error {
			return options.run(command.Context(), command.OutOrStdout(), arguments[0])
		},
	}
	flags := command.Flags()
	options.bind(flags)
	flags.BoolVarP(&options.watch, "watch", "w", false, "print a line for each change until interrupted")
	flags.StringVarP(&options.output, "output", "o", "", "json or yaml")
	return command
}

func (o *statusOptions) run(ctx context.Context, out io.Writer, name string) error {
	if err := checkFormat(o.output, formatJSON, formatYAML); err != nil {
		return err
	}
	opened, err := o.open()
	if err != nil {
		return err
	}
	canary, err := opened.canary(ctx, name)
	if err != nil {
		return err
	}
	switch {
	case o.watch:
		return follow(ctx, out, opened, name)
	case o.output != "":
		return writeObject(out, o.output, canary)
	}
	report, err := gather(ctx, opened, canary)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, report.text(opened.now(), terminal(out)))
	return err
}

// follow prints one line whenever what a person would see has changed.
func follow(ctx context.Context, out io.Writer, opened *session, name string) error {
	last := ""
	err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		canary, err := opened.canary(ctx, name)
		if err != nil {
			return false, err
		}
		line := changeLine(canary, terminal(out))
		if line == last {
			return false, nil
		}
		last = line
		_, err = fmt.Fprintf(out, "%s %s\n", opened.now().Format(time.TimeOnly), line)
		return false, err
	})
	if wait.Interrupted(err) {
		return nil
	}
	return err
}

func changeLine(canary *v1alpha1.Canary, colours bool) string {
	message := "not seen by a controller yet"
	if condition := meta.FindStatusCondition(canary.Status.Conditions, v1alpha1.ConditionReady); condition != nil {
		message = condition.Message
	}
	return fmt.Sprintf("%s weight %d: %s", coloured(colours, canary.Status.Phase), canary.Status.Weight, message)
}

// report is all that status tells.
type report struct {
	canary *v1alpha1.Canary
	run    *v1alpha1.CanaryRun
	split  *v1alpha1.TrafficSplit
}

func gather(ctx context.Context, opened *session, canary *v1alpha1.Canary) (*report, error) {
	found := &report{canary: canary}
	if canary.Status.Run != "" {
		run := &v1alpha1.CanaryRun{}
		err := opened.client.Get(ctx, client.ObjectKey{Namespace: canary.Namespace, Name: canary.Status.Run}, run)
		switch {
		case err == nil:
			found.run = run
		case !apierrors.IsNotFound(err):
			return nil, fmt.Errorf("read CanaryRun %s: %w", canary.Status.Run, err)
		}
	}
	split := &v1alpha1.TrafficSplit{}
	err := opened.client.Get(ctx, client.ObjectKey{Namespace: canary.Namespace, Name: canary.Spec.TargetRef.Name}, split)
	switch {
	case err == nil:
		found.split = split
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("read TrafficSplit %s: %w", canary.Spec.TargetRef.Name, err)
	}
	return found, nil
}

func (r *report) text(now time.Time, colours bool) string {
	var text strings.Builder
	status := r.canary.Status
	line := func(name, format string, arguments ...any) {
		fmt.Fprintf(&text, "  %-12s"+format+"\n", append([]any{name}, arguments...)...)
	}
	fmt.Fprintf(&text, "Canary %s/%s of %s %s\n", r.canary.Namespace, r.canary.Name, r.canary.Spec.TargetRef.Kind, r.canary.Spec.TargetRef.Name)
	line("Phase", "%s, step %s, weight %d of %d", coloured(colours, status.Phase), stepText(r.canary), status.Weight, max(status.TotalWeight, 100))
	for _, condition := range status.Conditions {
		line(condition.Type, "%s %s: %s", condition.Status, condition.Reason, condition.Message)
	}
	if r.run != nil {
		line("Run", "%s", runText(r.run, now))
	}
	line("Stable", "%s", revisionText(status.Stable))
	line("Canary", "%s", revisionText(status.Canary))
	if verdict := status.Verdict; verdict != nil {
		line("Verdict", "%s %s ago: %s", verdict.Verdict, ago(now, verdict.Time.Time), verdict.Reason)
	}
	if r.split != nil {
		proxies := r.split.Status.Proxies
		line("Proxies", "%d of %d run the weights%s", proxies.Acknowledged, proxies.Carrying, laggards(proxies.Laggards))
	}
	return text.String()
}

func laggards(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; not yet: " + strings.Join(names, ", ")
}

func runText(run *v1alpha1.CanaryRun, now time.Time) string {
	text := fmt.Sprintf("%s, %s, began %s ago", run.Name, run.Spec.Kind, ago(now, run.CreationTimestamp.Time))
	if source := run.Spec.Source; source != nil && source.Revision != "" {
		text += ", from " + source.Revision
		if source.Author != "" {
			text += " by " + source.Author
		}
	}
	if run.Record.Outcome != "" {
		text += ", " + string(run.Record.Outcome)
	}
	return text
}
