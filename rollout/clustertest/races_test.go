// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
)

// A new template lands in the instant before the unpause (run G1): it must not slip in un-analysed.
func TestUnpauseRacedByNewTemplate(t *testing.T) {
	b := newBed(t)
	raced := false
	b.intercept = before(func(kind string) bool { return !raced && kind == "unpause" }, func() {
		raced = true
		b.gate.set(func(g *gate) { g.silent = true })
		b.git("app:v3")
	})
	b.start()
	b.rest("app:v1", 2)
	b.git("app:v2")
	b.eventually("v3 is a run of its own", func() bool {
		status := b.canary().Status
		return status.Run == "app-2" && status.Phase == v1alpha1.PhaseHolding && status.Weight == 50
	})
	require.True(t, raced)
	require.Equal(t, v1alpha1.OutcomePromoted, b.run("app-1").Record.Outcome, "v2 was analysed and handed over")
	require.Equal(t, "app:v2", b.run("app-2").Spec.Stable.Images["app"])
	require.Len(t, b.pods()["app:v2"], 2)
	require.Len(t, b.pods()["app:v3"], 1, "v3 has a canary and no more")
	require.True(t, b.deployment().Spec.Paused)
	b.gate.set(func(g *gate) { g.silent = false })
	b.awaitStable("app:v3")
}

// Git goes back in the instant between handover and unpause.
func TestRevertBetweenHandoverAndUnpause(t *testing.T) {
	b := newBed(t)
	raced := false
	b.intercept = before(func(kind string) bool { return !raced && kind == "unpause" }, func() {
		raced = true
		b.git("app:v1")
	})
	b.start()
	b.rest("app:v1", 2)
	stable := b.pods()["app:v1"]
	b.git("app:v2")
	b.eventually("raced", func() bool { return b.canary().Status.Run == "app-2" })
	b.awaitStable("app:v1")
	require.Equal(t, stable, b.pods()["app:v1"], "the warm pods took the traffic back")
	require.Equal(t, v1alpha1.RunReturn, b.run("app-2").Spec.Kind)
}

// A person unpauses in mid-run: the template is held again, and its pods are the next run's canary.
func TestPersonUnpausesMidRun(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(50)
	b.steerReady(false) // else the rollout may be over before anybody sees it
	b.patch(b.deployment(), `{"spec":{"paused":false}}`)
	b.eventually("the next run begins", func() bool { return b.canary().Status.Run == "app-2" })
	b.steerReady(true)
	b.eventually("the next run holds", func() bool {
		status := b.canary().Status
		return status.Run == "app-2" && status.Phase == v1alpha1.PhaseHolding && status.Weight == 50
	})
	require.Equal(t, v1alpha1.OutcomeCancelled, b.run("app-1").Record.Outcome)
	for _, set := range b.sets() {
		if image(&set) == "app:v2" { // The rollout may have made another one of an equal template.
			require.Equal(t, set.Name == b.canary().Status.Canary.ReplicaSet, *set.Spec.Replicas > 0, set.Name)
		}
	}
	require.Len(t, b.pods()["app:v1"], 2, "stable is whole again")
	b.requireOneOwnedSet("app:v1")
	b.gate.set(func(g *gate) { g.silent = false })
	b.awaitStable("app:v2")
	require.Equal(t, v1alpha1.OutcomePromoted, b.run("app-2").Record.Outcome)
	b.requireOwnedHistory()
}

// With the break-glass label Sluice does not fight, says so, and adopts what comes out.
func TestBreakGlassMidRun(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(50)
	b.patch(b.deployment(), `{"metadata":{"labels":{"sluice.dev/manage":"off"}},"spec":{"paused":false}}`)
	b.awaitStable("app:v2")
	require.Equal(t, v1alpha1.OutcomeCancelled, b.run("app-1").Record.Outcome)
	require.Equal(t, "app-1", b.canary().Status.Run)
	require.Nil(t, b.split())
	b.eventually("no leftovers", func() bool {
		return !slices.ContainsFunc(b.sets(), released)
	})
}

// Admission was not there when the template changed: the set that the rollout began becomes the canary.
func TestUnheldRolloutIsHeld(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 3)
	b.gate.set(func(g *gate) { g.silent = true })
	b.steerReady(false)
	b.stop()
	b.patch(b.deployment(), `{"metadata":{"labels":{"sluice.dev/manage":"off"}}}`)
	b.git("app:v2")
	b.eventually("the rollout has begun", func() bool { return len(b.pods()["app:v2"]) > 0 })
	begun := b.setOf("app:v2")
	b.patch(b.deployment(), `{"metadata":{"labels":{"sluice.dev/manage":null}}}`)
	b.start()
	b.eventually("a run has taken it", func() bool { return b.canary().Status.Run == "app-1" })
	b.steerReady(true)
	b.awaitHolding(50)
	require.Equal(t, begun, b.canary().Status.Canary.ReplicaSet)
	require.Len(t, b.pods()["app:v1"], 3)
	b.requireOneOwnedSet("app:v1")
	b.gate.set(func(g *gate) { g.silent = false })
	b.awaitStable("app:v2")
	require.Equal(t, v1alpha1.OutcomePromoted, b.run("app-1").Record.Outcome)
}

// The controller dies after every single write, and each time a new one goes on from there.
func TestCrashAfterEveryWrite(t *testing.T) {
	b := newBed(t)
	inner, err := client.NewWithWatch(cluster.Config, client.Options{Scheme: scheme()})
	require.NoError(t, err)
	b.git("app:v1")
	b.scale(2)
	b.createCanary("app")
	b.reconcileUntil(inner, "v1 stable", func() bool { return b.canary().Status.Phase == v1alpha1.PhaseStable && isTrue(b.canary(), "Ready") })
	b.git("app:v2")
	var analysed []string
	b.reconcileUntil(inner, "v2 stable", func() bool {
		status := b.canary().Status
		if status.Phase == v1alpha1.PhasePromoting && analysed == nil {
			analysed = b.pods()["app:v2"]
		}
		return status.Phase == v1alpha1.PhaseStable && isTrue(b.canary(), "Ready") && !b.deployment().Spec.Paused
	})
	require.Equal(t, map[string][]string{"app:v2": analysed}, b.pods())
	require.Equal(t, []int32{0, 50, 100}, b.mesh.seen(), "no gate was skipped and no weight was repeated")

	b.gate.set(func(g *gate) { g.errors = 300 })
	b.git("app:v3")
	b.reconcileUntil(inner, "v3 rejected", func() bool { return isTrue(b.canary(), "Stalled") })
	require.Equal(t, []int32{0, 50, 100, 0, 50, 0}, b.mesh.seen())
	require.Equal(t, map[string][]string{"app:v2": analysed}, b.pods())
	entries := b.run("app-2").Record.Entries
	for i := 1; i < len(entries); i++ {
		require.NotEqual(t, entries[i-1], entries[i], "nothing is recorded twice")
	}
}

// A return to what was stable before is a jump of weight; each of its writes may be the last, too.
func TestCrashAfterEveryWriteOfAReturn(t *testing.T) {
	b := newBed(t)
	inner, err := client.NewWithWatch(cluster.Config, client.Options{Scheme: scheme()})
	require.NoError(t, err)
	rests := func(image string) func() bool {
		return func() bool {
			canary, d := b.canary(), b.deployment()
			return canary.Status.Phase == v1alpha1.PhaseStable && isTrue(canary, "Ready") && !d.Spec.Paused &&
				canary.Status.ObservedWorkloadGeneration == d.Generation && d.Spec.Template.Spec.Containers[0].Image == image
		}
	}
	b.git("app:v1")
	b.scale(2)
	b.createCanary("app")
	for _, image := range []string{"app:v1", "app:v2"} {
		b.git(image)
		b.reconcileUntil(inner, image+" stable", rests(image))
	}
	before := len(b.mesh.seen())
	b.git("app:v1")
	b.reconcileUntil(inner, "v1 stable again", rests("app:v1"))
	require.Equal(t, []int32{0, 100}, b.mesh.seen()[before:])
	require.Equal(t, v1alpha1.RunReturn, b.run("app-2").Spec.Kind)
	entries := b.run("app-2").Record.Entries
	for i := 1; i < len(entries); i++ {
		require.NotEqual(t, entries[i-1].Message, entries[i].Message, "nothing is recorded twice")
	}
}

// reconcileUntil drives single reconciles, each by a new Reconciler whose client dies after one write.
func (b *bed) reconcileUntil(inner client.WithWatch, what string, done func() bool) {
	b.Helper()
	b.eventually(what, func() bool {
		reconciler, err := rollout.NewReconciler(mortal(inner), inner, rollout.Options{
			Source:   func(*v1alpha1.Canary) (analysis.Source, error) { return b.gate, nil },
			Recorder: events.NewFakeRecorder(1000), Clock: clock.RealClock{},
		})
		require.NoError(b, err)
		_, err = reconciler.Reconcile(b.Context(), ctrl.Request{NamespacedName: b.key("app")})
		if err != nil {
			require.ErrorIs(b, err, errDied)
		}
		return done()
	})
}

var errDied = errors.New("the controller died")

// mortal is a client that fails all requests after its first write.
func mortal(inner client.WithWatch) client.Client {
	dead := false
	return writing(inner, func(write func() error) error {
		if dead {
			return errDied
		}
		dead = true
		return write()
	})
}

// writing is a client whose writes are all carried out by a function.
func writing(inner client.WithWatch, carryOut func(write func() error) error) client.Client {
	return interceptor.NewClient(inner, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
			return carryOut(func() error { return c.Create(ctx, object, options...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteOption) error {
			return carryOut(func() error { return c.Delete(ctx, object, options...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
			return carryOut(func() error { return c.Patch(ctx, object, patch, options...) })
		},
		Apply: func(ctx context.Context, c client.WithWatch, object runtime.ApplyConfiguration, options ...client.ApplyOption) error {
			return carryOut(func() error { return c.Apply(ctx, object, options...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
			return carryOut(func() error { return c.SubResource(sub).Patch(ctx, object, patch, options...) })
		},
	})
}

func released(rs appsv1.ReplicaSet) bool { return rs.Labels[v1alpha1.LabelRevision] != "" }

// The controller is restarted in each phase it passes through.
func TestRestartInEachPhase(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(50)
	b.restart()
	b.gate.set(func(g *gate) { g.silent = false })
	restarted := map[v1alpha1.Phase]bool{}
	b.eventually("v2 stable", func() bool {
		status := b.canary().Status
		if status.Phase != v1alpha1.PhaseStable && !restarted[status.Phase] {
			restarted[status.Phase] = true
			b.restart()
		}
		return status.Phase == v1alpha1.PhaseStable
	})
	b.awaitStable("app:v2")
	require.Equal(t, []int32{0, 50, 100}, b.mesh.seen())
	require.NotEmpty(t, restarted)
}
