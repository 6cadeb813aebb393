// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// A rollout that nobody held is held, unless people said that it shall go on, the manifest would unpause
// it again, or nothing is left of stable.
func TestUnheldRolloutIsHeld(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*world)
		held   bool
	}{
		{"begun", func(*world) {}, true},
		{"with the break-glass", func(w *world) { w.seen.Target.Unmanaged = true }, false},
		{"by a manifest that unpauses", func(w *world) { w.seen.Target.PauseOwner = "kustomize-controller" }, false},
		{"almost over", func(w *world) { w.seen.set(w.canary.Status.Stable.ReplicaSet).Replicas = 0 }, false},
		{"of a restart", func(w *world) {
			w.seen.Target.Template = template("A")
			w.restart("once")
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(1)
			w.until(t, w.atRest)
			stable := w.canary.Status.Stable.ReplicaSet
			w.seen.Target.Canary = "" // admission is not there
			w.push("B")
			w.controller()
			c.change(w)
			w.reconcile(false)
			require.Equal(t, c.held, w.seen.Target.Paused)
			if !c.held {
				return
			}
			begun := w.seen.serving().Name
			require.Equal(t, v1alpha1.HoldPending, w.seen.Target.Hold)
			w.seen.Gate = judged(analysis.VerdictWait)
			w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseHolding })
			require.Equal(t, begun, w.canary.Status.Canary.ReplicaSet)
			require.Equal(t, stable, w.canary.Status.Stable.ReplicaSet)
			require.EqualValues(t, 3, w.seen.set(stable).Ready, "stable is whole")
			require.Empty(t, w.violation)
		})
	}
}

// However long the run of a rollout that nobody held must wait, its pods have no traffic meanwhile, and
// the queue counts from when stable could carry all of it.
func TestUnheldPodsHaveNoTrafficWhileTheirRunWaits(t *testing.T) {
	w := newWorld(1)
	w.until(t, w.atRest)
	w.seen.Target.Canary = ""
	w.push("B")
	w.controller()
	w.reconcile(false)
	w.kubelet(true)
	begun := w.seen.serving().Name
	w.annotate(v1alpha1.AnnotationPause, "app-1")
	w.until(t, func() bool {
		decision := Plan(&w.canary, w.observe(), w.now)
		return w.canary.Status.Phase == v1alpha1.PhaseHeld && decision.Standing.Reason == v1alpha1.ReasonPaused && len(decision.Effects) == 0
	})
	require.Equal(t, begun, w.canary.Status.Canary.ReplicaSet)
	require.NotZero(t, w.seen.set(begun).Ready)
	require.Zero(t, w.seen.Split.CanaryWeight)
	require.EqualValues(t, 3, w.seen.set(w.canary.Status.Stable.ReplicaSet).Ready)

	w.push("A")
	w.until(t, w.atRest)
	require.Nil(t, w.seen.Split)
	require.Empty(t, w.violation)
}

// Pods that no revision of a run needs are kept out of the traffic when the run ends, too.
func TestStraysOutliveARunWithoutTraffic(t *testing.T) {
	w := holdingAt(t, 10)
	w.seen.Sets = append(w.seen.Sets, Set{Name: "app-stray", Hash: "stray", Template: template("C"), Replicas: 1, Pods: 1, Ready: 1, Revision: 1})
	w.push("A")
	w.until(t, func() bool {
		if w.seen.Split == nil {
			require.Zero(t, w.seen.set("app-stray").Pods)
		}
		return w.atRest()
	})
	require.Nil(t, w.seen.Split)
	require.Empty(t, w.violation)
}
