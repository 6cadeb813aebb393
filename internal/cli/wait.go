// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
)

// Exit codes of wait; 1 is any error, 2 is left to shells.
const (
	exitRejected   = 3
	exitSuperseded = 4
	exitHeld       = 5
	exitTimeout    = 6
)

type waitOptions struct {
	place
	revision string
	timeout  time.Duration
}

func newWait(dial dialer) *cobra.Command {
	options := &waitOptions{place: place{dial: dial}}
	command := &cobra.Command{
		Use:   "wait NAME",
		Short: "Wait until a revision is promoted, or say why it is not",
		Long: `Wait until the run that tries a revision of Git has ended, for CI to know whether its own commit has
made it. Without --revision, wait until the Canary rests.

The exit code says how it ended:
  0  promoted: the revision is what runs, also when it changed nothing in the workload
  3  rejected: it was taken back
  4  superseded: something newer is tried, or it was taken out of Git, before it was promoted
  5  held: at the end of --timeout it still waits for a person, a window or a place in the queue
  6  timeout: at the end of --timeout it is still being tried, or was not seen
  1  anything else, such as no access to the cluster

A revision is a commit, whole or its first 7 or more digits, or what the sync tool calls it, such as
main@sha1:1f2e3d4. It is known from Flux, Argo CD, or the annotation sluice.dev/source-revision on the
workload.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: options.one,
		RunE: func(command *cobra.Command, arguments []string) error {
			return options.run(command.Context(), command.OutOrStdout(), arguments[0])
		},
	}
	flags := command.Flags()
	options.bind(flags)
	flags.StringVar(&options.revision, "revision", "", "revision of Git to wait for")
	flags.DurationVar(&options.timeout, "timeout", 30*time.Minute, "how long to wait")
	return command
}

func (o *waitOptions) run(ctx context.Context, out io.Writer, name string) error {
	if o.revision != "" && len(o.revision) < 7 {
		return fmt.Errorf("--revision %s: write at least 7 characters", o.revision)
	}
	opened, err := o.open()
	if err != nil {
		return err
	}
	if _, err := opened.canary(ctx, name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	var last answer
	err = wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		seen, err := lookAt(ctx, opened, name)
		if err != nil {
			return false, err
		}
		last = seen.answer(o.revision)
		return last.ended, nil
	})
	switch {
	case err != nil && !wait.Interrupted(err) && ctx.Err() == nil:
		return err
	case !last.ended && last.held:
		last.code = exitHeld
	case !last.ended:
		last.code = exitTimeout
	}
	if last.code != exitOK {
		return &codeError{code: last.code, message: orDash(last.message)}
	}
	_, err = fmt.Fprintln(out, last.message)
	return err
}

// codeError ends the program with a code of its own.
type codeError struct {
	code    int
	message string
}

func (e *codeError) Error() string { return e.message }

// answer is what is known of a revision.
type answer struct {
	ended, held bool
	code        int
	message     string
}

// sight is one look at a Canary.
type sight struct {
	canary   *v1alpha1.Canary
	runs     []v1alpha1.CanaryRun // newest first
	workload *appsv1.Deployment
	source   *rollout.Source
}

func lookAt(ctx context.Context, opened *session, name string) (*sight, error) {
	canary, err := opened.canary(ctx, name)
	if err != nil {
		return nil, err
	}
	seen := &sight{canary: canary}
	if seen.runs, err = opened.runs(ctx, canary.Name); err != nil {
		return nil, err
	}
	workload := &appsv1.Deployment{}
	err = opened.client.Get(ctx, client.ObjectKey{Namespace: canary.Namespace, Name: canary.Spec.TargetRef.Name}, workload)
	switch {
	case apierrors.IsNotFound(err):
		return seen, nil
	case err != nil:
		return nil, fmt.Errorf("read Deployment %s: %w", canary.Spec.TargetRef.Name, err)
	}
	seen.workload = workload
	seen.source, err = rollout.SourceOf(ctx, opened.client, workload)
	return seen, err
}

// runs of a Canary, newest first.
func (s *session) runs(ctx context.Context, canary string) ([]v1alpha1.CanaryRun, error) {
	list := &v1alpha1.CanaryRunList{}
	err := s.client.List(ctx, list, client.InNamespace(s.namespace), client.MatchingLabels{v1alpha1.LabelCanary: canary})
	if err != nil {
		return nil, fmt.Errorf("list CanaryRuns: %w", err)
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.CanaryRun) int { return number(canary, b.Name) - number(canary, a.Name) })
	return list.Items, nil
}

func number(canary, run string) int {
	parsed, err := strconv.Atoi(strings.TrimPrefix(run, canary+"-"))
	if err != nil {
		return 0
	}
	return parsed
}

// answer says how a revision fares; the empty one is whatever the Canary is at.
func (s *sight) answer(revision string) answer {
	if revision == "" {
		return s.resting()
	}
	for i := range s.runs {
		run := &s.runs[i]
		if run.Spec.Source != nil && sameRevision(run.Spec.Source.Revision, revision) {
			return s.ofRun(run, i > 0)
		}
	}
	switch {
	case s.source == nil:
		return answer{message: fmt.Sprintf("no run tries revision %s, and nothing says which revision the workload is at", revision)}
	case sameRevision(s.source.Applied, revision) && s.settled(metav1.ConditionTrue):
		return answer{ended: true, message: fmt.Sprintf("revision %s changes nothing that is released: it is what runs", revision)}
	case sameRevision(s.source.Revision, revision) && s.canary.Status.Phase == v1alpha1.PhaseRejected && s.settled(metav1.ConditionFalse):
		return answer{ended: true, code: exitRejected, message: s.message()}
	}
	return answer{message: fmt.Sprintf("no run tries revision %s; the workload is at %s", revision, orDash(s.source.Revision))}
}

// ofRun answers for the run that tries the revision.
func (s *sight) ofRun(run *v1alpha1.CanaryRun, newer bool) answer {
	switch run.Record.Outcome {
	case v1alpha1.OutcomePromoted:
		return answer{ended: true, message: fmt.Sprintf("run %s promoted %s", run.Name, run.Spec.Source.Revision)}
	case v1alpha1.OutcomeRolledBack:
		return answer{ended: true, code: exitRejected, message: fmt.Sprintf("run %s rejected %s: %s", run.Name, run.Spec.Source.Revision, whyRejected(run))}
	case v1alpha1.OutcomeCancelled:
		return answer{ended: true, code: exitSuperseded, message: fmt.Sprintf("run %s was cancelled: %s", run.Name, lastMessage(run))}
	}
	if newer {
		return answer{ended: true, code: exitSuperseded, message: fmt.Sprintf("run %s was left for a newer one", run.Name)}
	}
	return s.moving()
}

// resting answers without a revision.
func (s *sight) resting() answer {
	switch {
	case s.canary.Status.Phase == v1alpha1.PhaseStable && s.settled(metav1.ConditionTrue):
		return answer{ended: true, message: s.message()}
	case s.canary.Status.Phase == v1alpha1.PhaseRejected && s.settled(metav1.ConditionFalse):
		return answer{ended: true, code: exitRejected, message: s.message()}
	}
	return s.moving()
}

func (s *sight) moving() answer {
	phase := s.canary.Status.Phase
	held := phase == v1alpha1.PhaseHeld || phase == v1alpha1.PhaseAwaitingApproval || !meta.IsStatusConditionTrue(s.canary.Status.Conditions, v1alpha1.ConditionReconciling)
	return answer{held: held, message: s.message()}
}

// settled: the Canary speaks of what is there now, and is ready or not.
func (s *sight) settled(ready metav1.ConditionStatus) bool {
	status := s.canary.Status
	return s.workload != nil && status.ObservedGeneration == s.canary.Generation &&
		status.ObservedWorkloadGeneration == s.workload.Generation &&
		meta.IsStatusConditionPresentAndEqual(status.Conditions, v1alpha1.ConditionReady, ready)
}

func (s *sight) message() string {
	if condition := meta.FindStatusCondition(s.canary.Status.Conditions, v1alpha1.ConditionReady); condition != nil {
		return fmt.Sprintf("%s: %s", s.canary.Status.Phase, condition.Message)
	}
	return "not seen by a controller yet"
}

func whyRejected(run *v1alpha1.CanaryRun) string {
	for _, entry := range run.Record.Entries {
		if entry.Outcome != "" {
			return entry.Message
		}
	}
	return lastMessage(run)
}

func lastMessage(run *v1alpha1.CanaryRun) string {
	if count := len(run.Record.Entries); count > 0 {
		return run.Record.Entries[count-1].Message
	}
	return "nothing is recorded"
}

// sameRevision compares what a tool calls a revision with what a person does: the same, or the
// beginning of its commit.
func sameRevision(known, asked string) bool {
	if known == "" {
		return false
	}
	commit := known[strings.LastIndexAny(known, ":/@")+1:]
	return known == asked || len(asked) >= 7 && strings.HasPrefix(commit, strings.ToLower(asked))
}
