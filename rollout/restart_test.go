// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// stableWith brings up A under a Canary that treats restarts so.
func stableWith(t *testing.T, restart v1alpha1.Restart) *world {
	t.Helper()
	w := newWorld(1)
	w.canary.Spec.Restart = restart
	w.seen.Gate = judged(analysis.VerdictPass)
	w.until(t, w.atRest)
	return w
}

func (w *world) atRest() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() }

func (w *world) rejected() bool { return w.canary.Status.Phase == v1alpha1.PhaseRejected && w.still() }

func (w *world) asks() bool {
	return Plan(&w.canary, w.observe(), w.now).Standing.Reason == v1alpha1.ReasonRestartHeld
}

// restartedAt is which restart the stable set comes from.
func (w *world) restartedAt() string {
	return w.seen.set(w.canary.Status.Stable.ReplicaSet).Template.Annotations["kubectl.kubernetes.io/restartedAt"]
}

func TestRestart(t *testing.T) {
	for _, c := range []struct {
		mode v1alpha1.Restart
		run  string
	}{{"", ""}, {v1alpha1.RestartRoll, ""}, {v1alpha1.RestartCanary, "app-1"}, {v1alpha1.RestartAsk, "app-1"}} {
		t.Run(string(c.mode), func(t *testing.T) {
			w := stableWith(t, c.mode)
			w.restart("once")
			require.Equal(t, c.run != "", w.seen.Target.Paused, "held by admission")
			if c.mode == v1alpha1.RestartAsk {
				w.until(t, w.asks)
				w.annotate(v1alpha1.AnnotationPromote, "app-1")
			}
			w.until(t, func() bool { return w.atRest() && w.restartedAt() == "once" })
			require.Equal(t, c.run, w.canary.Status.Run)
			require.Empty(t, w.violation)
			if c.run != "" {
				require.Equal(t, v1alpha1.RunCanary, w.seen.run(c.run).Spec.Kind)
				require.Equal(t, v1alpha1.OutcomePromoted, w.seen.run(c.run).Record.Outcome)
			}
			w.restart("again")
			if c.run != "" {
				w.until(t, func() bool { return w.canary.Status.Run == "app-2" })
				require.Equal(t, v1alpha1.RunCanary, w.seen.run("app-2").Spec.Kind, "another restart is no return")
			}
		})
	}
}

// A restart that waits for a word makes no pods, keeps no slot of a budget, and is called late.
func TestRestartThatNobodyAnswers(t *testing.T) {
	w := stableWith(t, v1alpha1.RestartAsk)
	w.restart("once")
	w.until(t, func() bool { return w.asks() && w.seen.Target.Hold == "app-1" })
	sets := len(w.seen.Sets)
	seen := w.observe()
	seen.Slots = []Slot{{Policy: "all", Mine: true, Held: true}}
	decision := Plan(&w.canary, seen, w.now)
	require.Equal(t, []Effect{ReleaseSlot{Policy: "all"}}, decision.Effects)
	late := w.canary.Status.PhaseStartedAt.Add(defaultHeldDeadline)
	require.Equal(t, late.Unix(), decision.Wake.Unix())
	w.now = late
	decision = Plan(&w.canary, w.observe(), w.now)
	require.Equal(t, v1alpha1.ReasonDeadlinePassed, decision.Standing.Reason)
	require.Contains(t, decision.Standing.Message, "sluice promote app")
	require.True(t, decision.Wake.IsZero())
	require.Len(t, w.seen.Sets, sets)

	w.annotate(v1alpha1.AnnotationAbort, "app-1")
	w.until(t, w.rejected)
	require.Empty(t, w.restartedAt(), "stable's pods run on")
	require.Len(t, w.seen.Sets, sets)
}

// The word on a restart holds for that one only, or stable could never be restarted again; the word on
// a release holds for it restarted, too.
func TestRejectedRestarts(t *testing.T) {
	w := stableWith(t, v1alpha1.RestartCanary)
	w.seen.Gate = judged(analysis.VerdictFail)
	w.restart("once")
	w.until(t, w.rejected)
	w.restart("again")
	w.until(t, func() bool { return w.rejected() && w.canary.Status.Run == "app-2" })
	w.restart("once")
	w.until(t, func() bool { return w.rejected() && w.canary.Status.Run == "app-1" })
	w.push("A")
	w.until(t, w.atRest)
	require.False(t, w.seen.Target.Paused, "the restart was taken back")

	w.push("B")
	w.until(t, func() bool { return w.rejected() && w.canary.Status.Run == "app-3" })
	w.restart("once")
	w.until(t, w.rejected)
	require.Equal(t, "app-3", w.canary.Status.Run, "a rejected release is not tried again because it is restarted")
	require.Empty(t, w.violation)
}

// In the midst of a run a held restart is a newer template; with roll it is the Deployment's own affair
// once the run is over.
func TestRestartInMidRun(t *testing.T) {
	for _, c := range []struct {
		mode v1alpha1.Restart
		run  string
	}{{v1alpha1.RestartRoll, "app-1"}, {v1alpha1.RestartCanary, "app-2"}, {v1alpha1.RestartAsk, "app-2"}} {
		t.Run(string(c.mode), func(t *testing.T) {
			w := stableWith(t, c.mode)
			w.push("B")
			w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseHolding })
			w.restart("once")
			w.until(t, func() bool { return w.atRest() && w.restartedAt() == "once" })
			require.Equal(t, c.run, w.canary.Status.Run, "a restarted release is a release: nobody is asked")
			require.Equal(t, v1alpha1.OutcomePromoted, w.seen.run(c.run).Record.Outcome)
		})
	}
}

// What the spec says at the moment holds for a restart that is held already.
func TestRestartIsEditedInMidRun(t *testing.T) {
	for _, c := range []struct {
		from, to v1alpha1.Restart
		outcome  v1alpha1.Outcome
	}{
		{v1alpha1.RestartAsk, v1alpha1.RestartCanary, v1alpha1.OutcomePromoted},
		{v1alpha1.RestartAsk, v1alpha1.RestartRoll, v1alpha1.OutcomeCancelled},
		{v1alpha1.RestartCanary, v1alpha1.RestartRoll, v1alpha1.OutcomeCancelled},
	} {
		t.Run(string(c.from)+" to "+string(c.to), func(t *testing.T) {
			w := stableWith(t, c.from)
			w.restart("once")
			w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseHeld })
			w.canary.Spec.Restart = c.to
			w.until(t, func() bool { return w.atRest() && w.restartedAt() == "once" })
			require.Equal(t, c.outcome, w.seen.run("app-1").Record.Outcome)
			require.Equal(t, c.to != v1alpha1.RestartRoll, w.seen.Target.RestartsHeld, "admission is told")
		})
	}
}

// Back to exactly what was stable before its restart is a return, like any other.
func TestUndoneRestartIsAReturn(t *testing.T) {
	w := stableWith(t, v1alpha1.RestartAsk)
	w.canary.Spec.Restart = v1alpha1.RestartCanary
	w.restart("once")
	w.until(t, func() bool { return w.atRest() && w.restartedAt() == "once" })
	w.canary.Spec.Restart = v1alpha1.RestartAsk
	w.now = w.now.Add(time.Minute)
	w.push("A")
	w.until(t, func() bool { return w.atRest() && w.restartedAt() == "" })
	require.Equal(t, v1alpha1.RunReturn, w.seen.run("app-2").Spec.Kind, "nobody is asked about a way back")
}
