// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// approval is what the flags of approve say.
type approval struct {
	place
	step    int32
	comment string
}

// currentStep is the value of --step that means the step at which the run is.
const currentStep = -1

func newApprove(dial dialer) *cobra.Command {
	options := &approval{place: place{dial: dial}}
	command := &cobra.Command{
		Use:   "approve NAME",
		Short: "Give your word that a step of a run may be left",
		Long: "Make an Approval of one step of the current run, for the revision that it tries. The API server writes\n" +
			"down who you are. To take it back before it was used, delete it.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: options.one,
		RunE: func(command *cobra.Command, arguments []string) error {
			opened, err := options.open()
			if err != nil {
				return err
			}
			return options.run(command.Context(), command.OutOrStdout(), opened, arguments[0])
		},
	}
	options.bind(command.Flags())
	command.Flags().Int32Var(&options.step, "step", currentStep, "index of the step in spec.steps, from 0; -1 is the one at which the run is")
	command.Flags().StringVar(&options.comment, "comment", "", "for the record of the run")
	return command
}

func (a *approval) run(ctx context.Context, out io.Writer, opened *session, name string) error {
	canary, err := opened.canary(ctx, name)
	if err != nil {
		return err
	}
	given, err := a.of(canary)
	if err != nil {
		return fmt.Errorf("approve Canary %s/%s: %w", canary.Namespace, canary.Name, err)
	}
	if err := opened.client.Create(ctx, given, client.FieldOwner(cliManager)); err != nil {
		return fmt.Errorf("approve Canary %s/%s: %w", canary.Namespace, canary.Name, err)
	}
	if given.Approver == nil {
		return fmt.Errorf("approval %s/%s does not count: admission wrote no approver into it; sluice install puts the rule there that does",
			given.Namespace, given.Name)
	}
	_, err = fmt.Fprintf(out, "Approval %s/%s: %s approves step %d of run %s, revision %s\n",
		given.Namespace, given.Name, given.Approver.Username, given.Spec.Step, given.Spec.Run, given.Spec.Revision)
	return err
}

// of is the Approval that is asked for.
func (a *approval) of(canary *v1alpha1.Canary) (*v1alpha1.Approval, error) {
	run, err := currentRun(canary, time.Time{})
	if err != nil {
		return nil, err
	}
	if canary.Status.Canary == nil {
		return nil, errors.New("its run has no canary yet")
	}
	step := a.step
	if step == currentStep {
		step = max(0, canary.Status.Step)
	}
	if step < 0 || int(step) >= len(canary.Spec.Steps) {
		return nil, fmt.Errorf("--step %d: write 0 to %d", step, len(canary.Spec.Steps)-1)
	}
	if canary.Spec.Steps[step].Approval == nil {
		return nil, fmt.Errorf("step %d asks for no approval%s", step, nextAsking(canary, step))
	}
	if canary.Status.StepsDigest == "" || canary.Status.ObservedGeneration != canary.Generation {
		return nil, errors.New("the controller has not yet looked at its steps as they are now; try again in some seconds")
	}
	return &v1alpha1.Approval{
		ObjectMeta: metav1.ObjectMeta{Namespace: canary.Namespace, GenerateName: canary.Name + "-"},
		Spec: v1alpha1.ApprovalSpec{
			Canary: canary.Name, Run: run, Step: step, Revision: canary.Status.Canary.PodTemplateHash,
			StepsDigest: canary.Status.StepsDigest, Comment: a.comment,
		},
	}, nil
}

// nextAsking helps to find the step that was meant.
func nextAsking(canary *v1alpha1.Canary, step int32) string {
	for i := int(step) + 1; i < len(canary.Spec.Steps); i++ {
		if canary.Spec.Steps[i].Approval != nil {
			return fmt.Sprintf("; the next that does is --step %d", i)
		}
	}
	return ", nor does a later one"
}
