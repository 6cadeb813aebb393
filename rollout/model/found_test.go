// SPDX-License-Identifier: Apache-2.0

package model

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
)

// What the search has found, each by the way on which it was found.

func began(t *testing.T, begin string, replicas uint8) *player {
	t.Helper()
	s, err := newSearch(Options{Disturbances: 9, Replicas: replicas})
	require.NoError(t, err)
	return s.play(t, begin)
}

func TestPausedDuringRestartNamesThePerson(t *testing.T) {
	p := began(t, "rest", 1)
	p.does("kubectl rollout restart", "a person pauses the Deployment", "calm", "calm", "look")
	require.Equal(t, v1alpha1.ReasonPausedByPerson, p.last.decision.Standing.Reason)
	p.rests(v1alpha1.PhaseStable)
}

// The set that a rollout has just emptied still shows a ready pod: it is not what serves.
func TestEmptiedSetIsNotAdopted(t *testing.T) {
	p := began(t, "rolling", 1)
	p.does("the Deployment controller syncs", "the ReplicaSet controller makes and removes pods of app-dc-A",
		"a pod of app-dc-A becomes ready", "the Deployment controller syncs", "a person pauses the Deployment", "look")
	require.Equal(t, "app-dc-A", p.last.decision.Status.Stable.ReplicaSet)
}

// Without a split the pods of both revisions have traffic: it is written before the pods go.
func TestSplitIsDeletedDuringRollback(t *testing.T) {
	p := began(t, "held", 2)
	p.does("until Holding 50", "look: fail", "a person deletes the TrafficSplit", "look")
	require.Zero(t, p.state.Split.Weight)
	require.True(t, p.state.Split.Exists)
	require.Equal(t, v1alpha1.ReasonWaitingForProxies, p.last.decision.Standing.Reason)
	p.does("look")
	for _, effect := range p.last.decision.Effects {
		_, scales := effect.(rollout.ScaleSet)
		require.False(t, scales, "the proxies have not acknowledged")
	}
	p.rests(v1alpha1.PhaseRejected)
}

func TestSplitIsEditedAfterTheDrainDeadline(t *testing.T) {
	p := began(t, "held", 2)
	p.does("until Holding 50", "look: fail", "time passes a deadline")
	p.state.Split.Weight, p.state.Split.Acknowledged = 50, true
	p.does("look")
	require.Zero(t, p.state.Split.Weight)
	require.NotZero(t, p.state.Sets[p.state.find(p.state.Canary.Canary)].Replicas, "the drain begins anew")
}

func TestSplitIsDeletedAfterTheHandover(t *testing.T) {
	p := began(t, "held", 2)
	p.does("until Promoting 100", "look", "look", "the Deployment controller syncs", "a person deletes the TrafficSplit", "look")
	require.True(t, p.state.Split.Exists)
	require.Equal(t, uint8(100), p.state.Split.Weight)
	require.NotZero(t, p.state.Sets[p.state.find(p.state.Canary.Stable)].Replicas)
	p.rests(v1alpha1.PhaseStable)
}

// The controller was away while a deadline passed that pods had not even begun to need.
func TestControllerAwayBeforeItsPodsWereMade(t *testing.T) {
	p := began(t, "held", 1)
	p.does("until Scaling 0", "time passes a deadline", "look", "look")
	require.Equal(t, v1alpha1.PhaseScaling, p.last.decision.Status.Phase)
	p.rests(v1alpha1.PhaseStable)
}

func TestControllerDiesAfterItMadePods(t *testing.T) {
	p := began(t, "held", 1)
	p.does("until Scaling 0", "time passes a deadline", "dies after 1", "look")
	require.Equal(t, v1alpha1.PhaseScaling, p.last.decision.Status.Phase)
}

// An autoscaler moves the replicas when the phase is older than the deadline.
func TestAutoscalerMovesLateInPromotion(t *testing.T) {
	for _, replicas := range []string{"1", "3"} {
		p := began(t, "returning", 3)
		p.does("the autoscaler sets 2 replicas", "until Promoting 100", "time passes a deadline", "time passes a deadline",
			"the autoscaler sets "+replicas+" replicas", "look")
		require.NotEqual(t, v1alpha1.PhaseRollingBack, p.last.decision.Status.Phase, "%s replicas", replicas)
		p.rests(v1alpha1.PhaseStable)
	}
}

// Pods that at last find room have the whole deadline to become ready.
func TestRoomAfterTheDeadline(t *testing.T) {
	p := began(t, "held", 1)
	p.does("until Scaling 0", "look", "look", "time passes a deadline", "look: no room", "look")
	require.Equal(t, v1alpha1.PhaseScaling, p.last.decision.Status.Phase)
	p.does("look", "time passes a deadline", "look")
	require.Equal(t, v1alpha1.PhaseRollingBack, p.last.decision.Status.Phase, "but not more than that")
}

// A Deployment that is made again at a template that was rejected brings pods of its own.
func TestRejectedTemplateComesWithItsPods(t *testing.T) {
	p := began(t, "rejected", 1)
	p.does("the Deployment is deleted and created with template A", "the Deployment controller syncs", "a person pauses the Deployment")
	p.rests(v1alpha1.PhaseRejected)
}

// Somebody lets a rejected template go and pauses in the midst: its pods are taken again.
func TestRejectedTemplateIsLetGoAndPaused(t *testing.T) {
	p := began(t, "held", 1)
	p.does("until Holding 50", "look: fail", "a person unpauses the Deployment", "look", "a person pauses the Deployment")
	p.rests(v1alpha1.PhaseRejected)
}

// The canary loses its traffic in the midst of the climb, and Git writes other steps: it begins with
// the first, not with the one that has the number of the old one.
func TestStepsAreEditedAfterALoss(t *testing.T) {
	p := began(t, "held", 1)
	p.does("until Scaling 10", "a pod of app-set-1 is lost", "look", "Git: steps [20 100]", "until Holding 20")
	p.rests(v1alpha1.PhaseStable)
}

// The traffic is lost while all steps of an edited list are above it: the run begins with the first.
func TestTrafficIsLostBelowTheFirstStep(t *testing.T) {
	p := began(t, "held", 1)
	p.does("until Shifting 10", "a pod of app-set-1 is lost", "Git: steps [100]", "look")
	require.Zero(t, p.state.Canary.Step)
	p.does("until Holding 100")
	p.rests(v1alpha1.PhaseStable)
}

// Stable's pods may have open work when the workload comes back, in the midst of the handover, to a
// template that was rejected before.
func TestRejectedTemplateComesBackDuringTheHandover(t *testing.T) {
	p := began(t, "rejected", 1)
	was := p.state.Canary.Stable
	p.does("Git: template C", "until Holding 50", "time passes a deadline", "look", "look", "look", "all proxies acknowledge the split",
		"look", "time passes a deadline", "look", "look", "Git: template C", "look", "look", "look")
	require.Equal(t, v1alpha1.PhaseRejected, p.last.decision.Status.Phase)
	require.True(t, p.state.Split.Open)
	require.NotZero(t, p.state.Sets[p.state.find(was)].Replicas, "work may be open on it")
	p.rests(v1alpha1.PhaseRejected)
	require.Zero(t, p.state.Sets[p.state.find(was)].Replicas)
	require.False(t, p.state.Split.Exists)
}

// A hold that somebody lifts without the break-glass is put back; what the rollout began is the canary.
func TestUnpausedTemplateIsHeldAgain(t *testing.T) {
	p := began(t, "held", 2)
	p.does("until Holding 50", "a person unpauses the Deployment", "look", "the Deployment controller syncs", "look")
	require.True(t, p.state.Deployment.Paused)
	canary := p.state.Canary.Canary
	require.Equal(t, nobody, canary, "the run is over")
	p.does("look")
	slot := p.state.find(p.state.Canary.Canary)
	require.Equal(t, p.state.Deployment.Template, p.state.Sets[slot].Template, "its set goes on")
	p.rests(v1alpha1.PhaseStable)
	require.Equal(t, promoted, p.state.Runs[0].Outcome)
}

func TestUnpausedRejectedTemplateIsHeldAgain(t *testing.T) {
	p := began(t, "rejected", 2)
	p.does("a person unpauses the Deployment", "the Deployment controller syncs")
	p.rests(v1alpha1.PhaseRejected)
}

func TestBreakGlassIsLeftAlone(t *testing.T) {
	p := began(t, "rejected", 2)
	p.does("a person unpauses the Deployment with the break-glass label")
	p.rests(v1alpha1.PhaseStable)
	require.Equal(t, rolledBack, p.state.Runs[0].Outcome)
}
