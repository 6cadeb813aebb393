// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// ask is one thing that people ask of a run: an annotation on the Canary, whose value names the run
// that they speak of, so that a request which comes too late is void.
type ask struct {
	name, short, long string
	annotation        string
	// value of the annotation; nil takes it off.
	value func(*v1alpha1.Canary, time.Time) (string, error)
	done  string
}

func asks() []ask {
	return []ask{
		{
			name: "promote", short: "Promote a run's canary without the gates of the steps that are left",
			long:       "Ask that the current run skip its remaining gates, holds and webhooks, but not approvals. The canary\nstill takes the whole traffic before it is handed over, and the hand-over is the same.",
			annotation: v1alpha1.AnnotationPromote, value: currentRun, done: "is asked to promote",
		},
		{
			name: "abort", short: "Take a run's traffic back to stable and reject its template",
			annotation: v1alpha1.AnnotationAbort, value: currentRun, done: "is asked to abort",
		},
		{
			name: "pause", short: "Let a run stand still",
			long:       "Let the current run stand still until it is resumed. A rollback is not held up.",
			annotation: v1alpha1.AnnotationPause, value: currentRun, done: "is asked to pause",
		},
		{
			name: "resume", short: "Let a paused run go on",
			annotation: v1alpha1.AnnotationPause, done: "is asked to go on",
		},
		{
			name: "retry", short: "Try a rejected template once more",
			annotation: v1alpha1.AnnotationRetry, value: rejectedRun, done: "is asked to try again",
		},
		{
			name: "restart", short: "Restart stable's pods, also while the workload is held",
			long:       "Ask that the pods of stable be replaced, a few at a time as the PodDisruptionBudget allows. It is no\nrelease and does not touch a run.",
			annotation: v1alpha1.AnnotationRestart, done: "is asked to restart its pods",
			value: func(_ *v1alpha1.Canary, now time.Time) (string, error) { return now.UTC().Format(time.RFC3339), nil },
		},
	}
}

func newAsk(dial dialer, what ask) *cobra.Command {
	where := &place{dial: dial}
	command := &cobra.Command{
		Use:               what.name + " NAME",
		Short:             what.short,
		Long:              what.long,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: where.one,
		RunE: func(command *cobra.Command, arguments []string) error {
			opened, err := where.open()
			if err != nil {
				return err
			}
			return what.run(command.Context(), command.OutOrStdout(), opened, arguments[0])
		},
	}
	where.bind(command.Flags())
	return command
}

func (a ask) run(ctx context.Context, out io.Writer, opened *session, name string) error {
	canary, err := opened.canary(ctx, name)
	if err != nil {
		return err
	}
	var value any
	if a.value != nil {
		if value, err = a.value(canary, opened.now()); err != nil {
			return fmt.Errorf("%s Canary %s/%s: %w", a.name, canary.Namespace, canary.Name, err)
		}
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{a.annotation: value}}})
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	if err := opened.client.Patch(ctx, canary, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(cliManager)); err != nil {
		return fmt.Errorf("%s Canary %s/%s: %w", a.name, canary.Namespace, canary.Name, err)
	}
	_, err = fmt.Fprintf(out, "Canary %s/%s %s%s\n", canary.Namespace, canary.Name, a.done, runSuffix(value))
	return err
}

func runSuffix(value any) string {
	if value == nil {
		return ""
	}
	return fmt.Sprintf(" (%v)", value)
}

// currentRun is the run that is under way.
func currentRun(canary *v1alpha1.Canary, _ time.Time) (string, error) {
	switch phase := canary.Status.Phase; phase {
	case "", v1alpha1.PhaseStable, v1alpha1.PhaseRejected:
		return "", fmt.Errorf("no run is under way: its phase is %q", phase)
	case v1alpha1.PhaseRollingBack:
		return "", fmt.Errorf("run %s is being rolled back already", canary.Status.Run)
	}
	return canary.Status.Run, nil
}

// rejectedRun is the run that rejected the template at which the workload is held.
func rejectedRun(canary *v1alpha1.Canary, _ time.Time) (string, error) {
	if canary.Status.Phase != v1alpha1.PhaseRejected {
		return "", fmt.Errorf("no template is rejected: its phase is %q", canary.Status.Phase)
	}
	return canary.Status.Run, nil
}
