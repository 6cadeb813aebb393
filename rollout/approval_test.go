// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// awaiting brings a world to a step that has passed its gate and asks for people's word.
func awaiting(t *testing.T, asked v1alpha1.StepApproval) *world {
	t.Helper()
	w := holdingAt(t, 10)
	w.canary.Spec.Steps[0].Approval = &asked
	w.seen.StampedSince = w.now.Add(-time.Hour)
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseAwaitingApproval })
	return w
}

func (w *world) approve(name, user string, change func(*v1alpha1.Approval)) {
	given := v1alpha1.Approval{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(w.now)}}
	given.Spec = v1alpha1.ApprovalSpec{
		Canary: "app", Run: w.canary.Status.Run, Revision: w.canary.Status.Canary.PodTemplateHash, StepsDigest: w.canary.Status.StepsDigest, Comment: "looks good",
	}
	given.Approver = &v1alpha1.Approver{Username: user}
	if change != nil {
		change(&given)
	}
	w.seen.Approvals = append(w.seen.Approvals, given)
}

func TestWhichApprovalsCount(t *testing.T) {
	robot := "system:serviceaccount:ci:robot"
	for _, c := range []struct {
		name   string
		user   string
		change func(*v1alpha1.Approval)
		void   string // empty: it counts
	}{
		{"a person", "alice", nil, ""},
		{"nobody", "", nil, "has no approver"},
		{"no stamp at all", "", func(a *v1alpha1.Approval) { a.Approver = nil }, "has no approver"},
		{"another revision", "alice", func(a *v1alpha1.Approval) { a.Spec.Revision = "other" }, "is for another revision"},
		{"other steps", "alice", func(a *v1alpha1.Approval) { a.Spec.StepsDigest = "other" }, "is for steps that were edited since"},
		{"too old", "alice", func(a *v1alpha1.Approval) { a.CreationTimestamp.Time = a.CreationTimestamp.Add(-31 * time.Minute) }, "is older than approval.validFor"},
		{"before admission stamped", "alice", func(a *v1alpha1.Approval) { a.CreationTimestamp.Time = a.CreationTimestamp.Add(-2 * time.Hour) }, "proves nothing"},
		{"a service account", "system:serviceaccount:flux-system:kustomize-controller", nil, "is by a service account"},
		{"a listed service account", robot, nil, ""},
		{"another step", "alice", func(a *v1alpha1.Approval) { a.Spec.Step = 1 }, "0 of 1"},
		{"another run", "alice", func(a *v1alpha1.Approval) { a.Spec.Run = "app-7" }, "0 of 1"},
		{"another Canary", "alice", func(a *v1alpha1.Approval) { a.Spec.Canary = "web" }, "0 of 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := awaiting(t, v1alpha1.StepApproval{
				Count: 1, ValidFor: &metav1.Duration{Duration: 30 * time.Minute}, ServiceAccounts: []string{"ci/robot"},
			})
			w.approve("it", c.user, c.change)
			decision := Plan(&w.canary, w.observe(), w.now)
			if c.void == "" {
				require.Equal(t, v1alpha1.PhaseScaling, decision.Status.Phase)
				w.reconcile(false)
				entries := w.seen.run("app-1").Record.Entries
				require.Contains(t, entries[len(entries)-2].Message+entries[len(entries)-1].Message, "approved by "+c.user)
				return
			}
			require.Equal(t, v1alpha1.PhaseAwaitingApproval, decision.Status.Phase)
			require.Equal(t, v1alpha1.ReasonAwaitingApproval, decision.Standing.Reason)
			require.Contains(t, decision.Standing.Message, c.void)
		})
	}
}

// Without a rule in admission any name may have been written by anybody: nothing counts.
func TestApprovalsNeedAdmission(t *testing.T) {
	w := awaiting(t, v1alpha1.StepApproval{Count: 1})
	w.approve("it", "alice", nil)
	w.seen.StampedSince = time.Time{}
	require.Equal(t, v1alpha1.PhaseAwaitingApproval, Plan(&w.canary, w.observe(), w.now).Status.Phase)
	w.seen.StampedSince = w.now.Add(-5 * time.Second)
	require.Equal(t, v1alpha1.PhaseAwaitingApproval, Plan(&w.canary, w.observe(), w.now).Status.Phase, "servers may not obey it yet")
	w.seen.StampedSince = w.now.Add(-10 * time.Second)
	require.Equal(t, v1alpha1.PhaseScaling, Plan(&w.canary, w.observe(), w.now).Status.Phase)
}

// One person is one word, however often it is given.
func TestTwoPeopleMustApprove(t *testing.T) {
	w := awaiting(t, v1alpha1.StepApproval{Count: 2})
	w.approve("first", "alice", nil)
	w.approve("second", "alice", nil)
	decision := Plan(&w.canary, w.observe(), w.now)
	require.Equal(t, v1alpha1.PhaseAwaitingApproval, decision.Status.Phase)
	require.Contains(t, decision.Standing.Message, "1 of 2 approvals of step 0 of run app-1")
	w.approve("third", "bob", nil)
	require.Equal(t, v1alpha1.PhaseScaling, Plan(&w.canary, w.observe(), w.now).Status.Phase)
}

// What was approved is the plan that stood there: step 0 of another plan is another step.
func TestAnEditOfTheStepsVoidsApprovals(t *testing.T) {
	w := awaiting(t, v1alpha1.StepApproval{Count: 1})
	w.approve("early", "alice", nil)
	require.Equal(t, v1alpha1.PhaseScaling, Plan(&w.canary, w.observe(), w.now).Status.Phase)
	w.canary.Spec.Steps[1].Weight = 90
	decision := Plan(&w.canary, w.observe(), w.now)
	require.Equal(t, v1alpha1.PhaseAwaitingApproval, decision.Status.Phase)
	require.Contains(t, decision.Standing.Message, "Approval early is for steps that were edited since")
	w.reconcile(false)
	w.approve("again", "alice", nil)
	require.Equal(t, v1alpha1.PhaseScaling, Plan(&w.canary, w.observe(), w.now).Status.Phase)
}

// While people are waited for the canary carries traffic: it is judged on, and a bad one goes.
func TestGateIsJudgedWhileAwaitingApproval(t *testing.T) {
	w := awaiting(t, v1alpha1.StepApproval{Count: 1})
	w.seen.Gate = judged(analysis.VerdictHold)
	w.approve("it", "alice", nil)
	w.now = w.now.Add(3 * time.Hour)
	require.Equal(t, v1alpha1.PhaseAwaitingApproval, Plan(&w.canary, w.observe(), w.now).Status.Phase, "it has not passed now")
	w.seen.Gate = judged(analysis.VerdictFail)
	require.Equal(t, v1alpha1.PhaseRollingBack, Plan(&w.canary, w.observe(), w.now).Status.Phase)
}

// Who may annotate a Canary skips its gates, not other people's word.
func TestPromotionOnRequestWaitsForApproval(t *testing.T) {
	w := holdingAt(t, 10)
	w.canary.Spec.Steps[1].Approval = &v1alpha1.StepApproval{Count: 1}
	w.seen.StampedSince = w.now.Add(-time.Hour)
	w.seen.Gate = judged(analysis.VerdictWait)
	w.annotate(v1alpha1.AnnotationPromote, "app-1")
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseAwaitingApproval })
	require.EqualValues(t, 50, w.canary.Status.Weight)
	w.approve("it", "alice", func(a *v1alpha1.Approval) { a.Spec.Step = 1 })
	defer func() {
		words := 0
		for _, entry := range w.seen.run("app-1").Record.Entries {
			if entry.Approval != nil && entry.Approval.Username == "alice" {
				words++
			}
		}
		require.Equal(t, 1, words, "whose word it was is recorded")
	}()
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() })
	require.Equal(t, "B", w.seen.serving().Template.Spec.Containers[0].Image)
	require.Empty(t, w.violation)
}
