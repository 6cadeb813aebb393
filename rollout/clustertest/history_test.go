// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Run A and E2 of the design review: promote A, B, then A again. The ReplicaSet in the history is the
// canary; a second one of equal template would be passed over and all analysed pods replaced.
func TestReturnToHistoryRunAE2(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 3)
	first := b.setOf("app:v1")
	b.git("app:v2")
	b.awaitStable("app:v2")

	b.git("app:v1")
	b.eventually("the return is handed over", func() bool {
		run := b.canary().Status.Run
		return run == "app-2" && (b.canary().Status.Phase == v1alpha1.PhasePromoting || b.run(run).Record.Outcome == v1alpha1.OutcomePromoted)
	})
	require.Equal(t, v1alpha1.RunReturn, b.run("app-2").Spec.Kind)
	require.Equal(t, first, b.run("app-2").Spec.Candidate.ReplicaSet)
	returned := b.pods()["app:v1"]
	require.Len(t, returned, 3)
	b.awaitStable("app:v1")
	require.Equal(t, returned, b.pods()["app:v1"], "the pods that were readied are the pods that stay")
	require.Equal(t, []int32{0, 50, 100, 0, 100}, b.mesh.seen(), "one flip, no steps")
	require.Len(t, b.sets(), 2, "no second set of an equal template")
	b.eventually("history goes on", func() bool {
		return b.deployment().Annotations["deployment.kubernetes.io/revision"] == "3"
	})
	b.requireOwnedHistory()

	b.git("app:v2")
	b.awaitStable("app:v2")
	require.Equal(t, v1alpha1.RunReturn, b.run("app-3").Spec.Kind)
}

// A revert in the instant after the handover finds the old set warm: it goes back by one flip.
func TestReturnWhileWarm(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	old := b.pods()["app:v1"]
	hash := b.canary().Status.Stable.PodTemplateHash
	b.mesh.set(func(m *mesh) { m.open = map[string]int64{hash: 1} })
	b.lengthenDrain()
	b.git("app:v2")
	b.eventually("the canary is handed over and the old set warm", func() bool {
		d := b.deployment()
		return b.canary().Status.Phase == v1alpha1.PhasePromoting && !d.Spec.Paused
	})
	b.git("app:v1")
	b.eventually("back on the old set", func() bool { return b.setOf("app:v1") == b.canary().Status.Stable.ReplicaSet })
	require.Equal(t, old, b.pods()["app:v1"], "the old pods never went")
	b.mesh.set(func(m *mesh) { m.open = nil })
	b.awaitStable("app:v1")
	require.Equal(t, old, b.pods()["app:v1"])
}

// D1: history v1, v2; stable v1; held v3; replicas 2 -> 0 -> 2 must bring stable back, not v2.
func TestScaleToZeroAndBackD1(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.git("app:v2")
	b.awaitStable("app:v2")
	b.git("app:v1")
	b.awaitStable("app:v1")
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v3")
	b.awaitHolding(50)
	b.zeroAndBack("app:v1")
	b.awaitHolding(50)
	b.gate.set(func(g *gate) { g.silent = false })
	b.awaitStable("app:v3")
}

// D2: stable v2, held v1 which is in the history; replicas 2 -> 0 -> 2 while rejected.
func TestScaleToZeroAndBackD2(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.git("app:v2")
	b.awaitStable("app:v2")
	b.setRollbackWindow("0s")
	b.gate.set(func(g *gate) { g.errors = 400 })
	b.git("app:v1")
	b.awaitCondition("Stalled", v1alpha1.ReasonRolledBack)
	b.zeroAndBack("app:v2")
	require.Equal(t, v1alpha1.PhaseRejected, b.canary().Status.Phase)
	require.Empty(t, b.pods()["app:v1"])
}

// D3: revisionHistoryLimit 0: the Deployment controller deletes stable's set at zero replicas. It is
// made again from the run's record.
func TestScaleToZeroAndBackD3(t *testing.T) {
	b := newBed(t)
	b.start()
	limit := func(d *appsv1.Deployment) { none := int32(0); d.Spec.RevisionHistoryLimit = &none }
	b.gitWith("app:v1", limit)
	b.scale(2)
	b.createCanary("app")
	b.awaitStable("app:v1")
	b.gate.set(func(g *gate) { g.silent = true })
	b.gitWith("app:v2", limit)
	b.awaitHolding(50)
	b.zeroAndBack("app:v1")
	b.awaitHolding(50)
	b.gate.set(func(g *gate) { g.silent = false })
	b.awaitStable("app:v2")
}

// Somebody deletes stable's ReplicaSet in mid-run.
func TestStableSetDeleted(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(50)
	name := b.setOf("app:v1")
	rs := &appsv1.ReplicaSet{}
	require.NoError(t, b.client.Get(t.Context(), b.key(name), rs))
	require.NoError(t, b.client.Delete(t.Context(), rs, client.PropagationPolicy("Background")))
	b.eventually("stable is made again", func() bool {
		again := &appsv1.ReplicaSet{}
		return b.client.Get(t.Context(), b.key(name), again) == nil && again.UID != rs.UID && again.Status.ReadyReplicas == 2
	})
	b.gate.set(func(g *gate) { g.silent = false })
	b.awaitStable("app:v2")
}

// E1: at the instant of the handover the autoscaler moves and half of the canary is not ready. Neither
// revision may lose a pod: before the first patch, between the two, and before the unpause.
func TestHandoverUnderPressureE1(t *testing.T) {
	for _, instant := range []string{"release", "handover", "unpause"} {
		t.Run(instant, func(t *testing.T) {
			b := newBed(t)
			pressed := make(chan struct{})
			var analysed []string
			b.intercept = before(func(kind string) bool { return analysed == nil && kind == instant }, func() {
				analysed = b.pods()["app:v2"]
				b.scale(6)
				b.steerReadyCount("app:v2", 2)
				close(pressed)
			})
			b.start()
			b.rest("app:v1", 4)
			stable := b.pods()["app:v1"]
			b.git("app:v2")
			<-pressed
			require.Len(t, analysed, 4)
			b.eventually("the autoscaler's size", func() bool { return len(b.pods()["app:v2"]) == 6 })
			require.Subset(t, b.pods()["app:v2"], analysed, "no analysed pod is lost")
			if instant != "unpause" {
				require.Subset(t, b.pods()["app:v1"], stable, "stable could still take all the traffic back")
			}
			b.steerReadyCount("app:v2", 100)
			b.awaitStable("app:v2")
			require.Len(t, b.pods()["app:v2"], 6)
			require.Subset(t, b.pods()["app:v2"], analysed)
		})
	}
}

// zeroAndBack scales to zero and back and requires that only one revision serves at the end.
func (b *bed) zeroAndBack(want string) {
	b.Helper()
	b.scale(0)
	b.eventually("no pods", func() bool { return len(b.pods()) == 0 })
	b.requireNoStrangers(want)
	b.scale(2)
	b.eventually(want+" is back", func() bool { return len(b.pods()[want]) == 2 })
	b.requireNoStrangers(want)
}

// requireNoStrangers: no pods but of stable and of the run's canary.
func (b *bed) requireNoStrangers(stable string) {
	b.Helper()
	status := b.canary().Status
	for _, rs := range b.sets() {
		mine := status.Canary != nil && rs.Name == status.Canary.ReplicaSet
		require.True(b, image(&rs) == stable || mine || *rs.Spec.Replicas == 0, "%s has pods", rs.Name)
	}
}

func (b *bed) setOf(want string) string {
	b.Helper()
	for _, rs := range b.sets() {
		if image(&rs) == want {
			return rs.Name
		}
	}
	return ""
}
