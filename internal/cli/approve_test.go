// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// stamping plays the admission rule that writes approvers; config/webhook's own is tried on a real API
// server in rollout/clustertest.
func stamping(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
	if given, ok := object.(*v1alpha1.Approval); ok {
		given.Approver = &v1alpha1.Approver{Username: "alice"}
	}
	return c.Create(ctx, object, options...)
}

func TestApprove(t *testing.T) {
	asking := func(step int) func(*v1alpha1.Canary) {
		return func(canary *v1alpha1.Canary) {
			canary.Spec.Steps[step].Approval = &v1alpha1.StepApproval{Count: 1}
			canary.Status.StepsDigest, canary.Status.ObservedGeneration = "5d41", canary.Generation
		}
	}
	for name, c := range map[string]struct {
		canary    string
		change    func(*v1alpha1.Canary)
		arguments []string
		step      int32
		refused   string
	}{
		"the step it is at": {"checkout", asking(1), []string{"--comment", "seen"}, 1, ""},
		"a later one":       {"canary/checkout", asking(2), []string{"--step", "2", "--comment", "seen"}, 2, ""},
		"none asked now":    {"checkout", asking(2), nil, 0, "step 1 asks for no approval; the next that does is --step 2"},
		"none asked":        {"checkout", asking(0), nil, 0, "step 1 asks for no approval, nor does a later one"},
		"no such step":      {"checkout", asking(1), []string{"--step", "9"}, 0, "--step 9: write 0 to 3"},
		"steps just edited": {"checkout", func(canary *v1alpha1.Canary) {
			asking(1)(canary)
			canary.Status.ObservedGeneration--
		}, nil, 0, "try again in some seconds"},
		"no run": {"till", asking(1), nil, 0, `no run is under way: its phase is "Rejected"`},
	} {
		t.Run(name, func(t *testing.T) {
			scheme, err := newScheme()
			require.NoError(t, err)
			objects := shop(t)
			c.change(objects[0].(*v1alpha1.Canary))
			cluster := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{Create: stamping}).Build()
			root := newRoot(func(*kubeconfig) (*session, error) {
				return &session{client: cluster, namespace: "shop", now: noon}, nil
			})
			var out, complaint bytes.Buffer
			code := execute(t.Context(), root, Streams{In: strings.NewReader(""), Out: &out, Err: &complaint}, append([]string{"approve", c.canary}, c.arguments...))
			list := &v1alpha1.ApprovalList{}
			require.NoError(t, cluster.List(t.Context(), list))
			if c.refused != "" {
				require.Equal(t, exitError, code)
				require.Contains(t, complaint.String(), c.refused)
				require.Empty(t, list.Items)
				return
			}
			require.Equal(t, exitOK, code, complaint.String())
			require.Len(t, list.Items, 1)
			require.Equal(t, v1alpha1.ApprovalSpec{Canary: "checkout", Run: "checkout-3", Step: c.step, Revision: "9c1b", StepsDigest: "5d41", Comment: "seen"}, list.Items[0].Spec)
			require.Contains(t, out.String(), ": alice approves step ")
		})
	}
}

// A word that nobody can tell the giver of does not count, and that is said at once.
func TestApproveWithoutAdmission(t *testing.T) {
	objects := shop(t)
	canary := objects[0].(*v1alpha1.Canary)
	canary.Spec.Steps[1].Approval = &v1alpha1.StepApproval{Count: 1}
	canary.Status.StepsDigest, canary.Status.ObservedGeneration = "5d41", canary.Generation
	code, out, complaint, _ := people(t, objects, "approve", "checkout")
	require.Equal(t, exitError, code)
	require.Empty(t, out)
	require.Contains(t, complaint, "does not count: admission wrote no approver into it")
}
