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
