// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// A bad canary loses its traffic, then its pods; the Deployment stays held; the same template is not
// tried again; a fixed one is.
func TestRollback(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	stable := b.pods()["app:v1"]

	b.gate.set(func(g *gate) { g.errors = 200 })
	b.git("app:v2")
	stalled := b.awaitCondition("Stalled", v1alpha1.ReasonRolledBack)
	require.Contains(t, stalled.Message, "app-1")
	require.Equal(t, v1alpha1.PhaseRejected, b.canary().Status.Phase)
	require.Equal(t, map[string][]string{"app:v1": stable}, b.pods())
	require.Equal(t, []int32{0, 50, 0}, b.mesh.seen())
	require.True(t, b.deployment().Spec.Paused)
	require.Equal(t, v1alpha1.OutcomeRolledBack, b.run("app-1").Record.Outcome)
	b.eventually("the split is gone", func() bool { return b.split() == nil })
	b.requireOneOwnedSet("app:v1")

	b.git("app:v1")
	b.awaitStable("app:v1")
	require.Equal(t, stable, b.pods()["app:v1"], "releasing the hold starts nothing")

	b.git("app:v2")
	b.awaitCondition("Stalled", v1alpha1.ReasonRolledBack)
	require.Equal(t, []int32{0, 50, 0}, b.mesh.seen(), "the rejected template gets no second try")

	b.gate.set(func(g *gate) { g.errors = 0 })
	b.git("app:v3")
	b.awaitStable("app:v3")
	require.Equal(t, v1alpha1.OutcomePromoted, b.run("app-2").Record.Outcome)
	b.eventually("nothing rejected is in the history", func() bool {
		return !slices.Contains(b.images(), "app:v2") && len(b.sets()) == 2
	})
}

// Open work of the canary delays its pods, and no longer than the drain deadline.
func TestRollbackDrains(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(50)
	hash := b.canary().Status.Canary.PodTemplateHash
	b.mesh.set(func(m *mesh) { m.open = map[string]int64{hash: 3} })
	b.git("app:v1")
	b.awaitPhase(v1alpha1.PhaseRollingBack)
	require.Len(t, b.pods()["app:v2"], 1, "open requests keep the pod")
	started := time.Now()
	b.awaitStable("app:v1")
	require.Less(t, time.Since(started), 10*time.Second, "the deadline is 1s")
}

// A Git revert in mid-run is a rollback at once and releases the hold. Nothing of stable restarts,
// and the reverted template may come back.
func TestRevertMidRun(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	stable := b.pods()["app:v1"]
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(50)
	b.git("app:v1")
	b.awaitStable("app:v1")
	require.Equal(t, map[string][]string{"app:v1": stable}, b.pods())
	require.Equal(t, v1alpha1.OutcomeCancelled, b.run("app-1").Record.Outcome)
	require.Equal(t, []int32{0, 50, 0}, b.mesh.seen())

	b.gate.set(func(g *gate) { g.silent = false })
	b.git("app:v2")
	b.awaitStable("app:v2")
}

// A third revision in mid-run: traffic goes to stable first, then a new run starts from stable.
func TestThirdRevisionMidRun(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(50)
	b.git("app:v3")
	b.eventually("the new run holds at 50", func() bool {
		canary := b.canary()
		return canary.Status.Run == "app-2" && canary.Status.Phase == v1alpha1.PhaseHolding
	})
	require.Equal(t, []int32{0, 50, 0, 0, 50}, b.mesh.seen())
	require.Len(t, b.pods()["app:v1"], 2)
	require.Empty(t, b.pods()["app:v2"])
	require.Equal(t, v1alpha1.OutcomeCancelled, b.run("app-1").Record.Outcome)
	require.Equal(t, "app:v1", b.run("app-2").Spec.Stable.Images["app"])
	b.gate.set(func(g *gate) { g.silent = false })
	b.awaitStable("app:v3")
}

// What is unknown is neither bad nor good: the run waits while metrics are away, and says so.
func TestMetricsAway(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.gate.set(func(g *gate) { g.away = true })
	b.git("app:v2")
	condition := b.awaitCondition("Reconciling", v1alpha1.ReasonMetricsUnavailable)
	require.Contains(t, condition.Message, "connection refused")
	first := b.canary().Status
	b.eventually("the step's clock stands", func() bool {
		return b.canary().Status.StepStartedAt.After(first.StepStartedAt.Time)
	})
	require.Equal(t, v1alpha1.PhaseHolding, b.canary().Status.Phase)
	b.gate.set(func(g *gate) { g.away = false })
	b.awaitStable("app:v2")
}

// A canary whose pods do not become ready is rolled back; one that nobody can place is waited for.
func TestCanaryNeverReady(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.steerReady(false)
	b.steerSchedulable(false)
	b.gitWith("app:v2", shortDeadline)
	b.awaitCondition("Reconciling", v1alpha1.ReasonInsufficientCanary)
	b.steerSchedulable(true)
	b.awaitCondition("Stalled", v1alpha1.ReasonRolledBack)
	require.Equal(t, []int32{0}, b.mesh.seen(), "it never had traffic")
}

// Proxies that do not acknowledge are named; the step's clock does not start, nothing is rolled back.
func TestLaggards(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.mesh.set(func(m *mesh) { m.deaf = true })
	b.git("app:v2")
	b.awaitCondition("Reconciling", v1alpha1.ReasonWaitingForProxies)
	require.Empty(t, b.pods()["app:v2"], "no canary pod before the split is acknowledged")
	b.mesh.set(func(m *mesh) { m.deaf = false })
	b.awaitStable("app:v2")
}

func TestCanaryDeletedMidRun(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	stable := b.pods()["app:v1"]
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(50)
	b.deleteCanary()
	require.Equal(t, []int32{0, 50, 0}, b.mesh.seen(), "traffic went to stable first")
	require.Nil(t, b.split())
	d := b.deployment()
	require.False(t, d.Spec.Paused)
	require.NotContains(t, d.Labels, v1alpha1.LabelCanary)
	require.NotContains(t, d.Labels, v1alpha1.LabelHold)
	b.eventually("the Deployment rolls by itself", func() bool { return len(b.pods()["app:v2"]) == 2 && len(b.pods()) == 1 })
	require.NotEqual(t, stable, b.pods()["app:v2"])
	b.requireOwnedHistory()
}

func TestCanaryDeletedWhenRejected(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	stable := b.pods()["app:v1"]
	b.gate.set(func(g *gate) { g.errors = 300 })
	b.git("app:v2")
	b.awaitCondition("Stalled", v1alpha1.ReasonRolledBack)
	b.deleteCanary()
	d := b.deployment()
	require.True(t, d.Spec.Paused, "nobody asked for the rejected template")
	require.NotContains(t, d.Labels, v1alpha1.LabelCanary)
	require.NotContains(t, d.Labels, v1alpha1.LabelHold)
	require.Equal(t, map[string][]string{"app:v1": stable}, b.pods())
	b.requireOwnedHistory()
}

func (b *bed) deleteCanary() {
	b.Helper()
	canary := b.canary()
	require.NoError(b, b.client.Delete(b.Context(), canary))
	b.eventually("the Canary is gone", func() bool {
		return b.client.Get(b.Context(), b.key("app"), canary.DeepCopy()) != nil
	})
}

func (b *bed) images() []string {
	var out []string
	for _, rs := range b.sets() {
		out = append(out, image(&rs))
	}
	return out
}

// requireOneOwnedSet: while a hold stands the Deployment owns stable and nothing else.
func (b *bed) requireOneOwnedSet(want string) {
	b.Helper()
	var owned []string
	for _, rs := range b.sets() {
		if metav1.GetControllerOf(&rs) != nil {
			owned = append(owned, image(&rs))
		}
	}
	require.Equal(b, []string{want}, owned)
}

// requireOwnedHistory: nothing of Sluice's is left on the ReplicaSets.
func (b *bed) requireOwnedHistory() {
	b.Helper()
	for _, rs := range b.sets() {
		require.NotNil(b, metav1.GetControllerOf(&rs), rs.Name)
		require.NotContains(b, rs.Labels, v1alpha1.LabelRevision)
		require.Equal(b, rs.Spec.Template.Labels, rs.Labels)
	}
}
