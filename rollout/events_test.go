// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Whatever happens to a Canary, each transition of the plan is in the table and has its event; and each row of the table is a transition that happens. (Flagger's rollbacks at a deadline
// alerted nobody: flagger#1663, rollout-peers §2a 10 and 15.)
func TestNoTransitionIsWithoutItsEvent(t *testing.T) {
	happened := map[string]int{}
	watch := func(w *world) {
		decision := Plan(&w.canary, w.observe(), w.now)
		from, to := orDefault(w.canary.Status.Phase, v1alpha1.PhaseStable), decision.Status.Phase
		if from == to {
			return
		}
		row, found := noticeOf(from, to)
		require.True(t, found, "%s -> %s is not in the table", from, to)
		told := 0
		for _, event := range decision.Events {
			require.NotEmpty(t, event.Message, "%s -> %s", from, to)
			if slices.Contains(row.reasons, event.Reason) {
				told++
				happened[string(from)+" "+string(to)+" "+event.Reason]++
			}
		}
		require.NotZero(t, told, "%s -> %s: %+v", from, to, decision.Events)
	}
	sequences := uint64(150)
	if testing.Short() {
		sequences = 30 // too few to see each row
	}
	for seed := range sequences {
		w := newWorld(seed)
		for range 150 {
			w.disturb()
			watch(w)
			w.reconcile(w.random.IntN(6) == 0)
		}
	}
	for _, phase := range []v1alpha1.Phase{v1alpha1.PhaseHeld, v1alpha1.PhaseScaling, v1alpha1.PhaseShifting, v1alpha1.PhaseHolding, v1alpha1.PhaseAwaitingApproval, v1alpha1.PhasePromoting, v1alpha1.PhaseRollingBack, v1alpha1.PhaseRejected} {
		for _, disturb := range []func(*world){
			func(w *world) { w.push("A") },
			func(w *world) { w.seen.Target.Deleting = true },
			func(w *world) { w.seen.Target.Paused = false },
			func(w *world) {
				if canary := w.seen.set(w.canary.Status.Canary.ReplicaSet); canary != nil {
					canary.Ready = 0
				}
			},
			func(w *world) {
				if w.seen.Split != nil {
					w.seen.Split.CanaryWeight = 0
				}
			},
			func(w *world) { w.canary.Spec.Steps[2].Approval = nil },
			func(w *world) {
				w.canary.Spec.Steps[0].Approval = &v1alpha1.StepApproval{}
				w.now = w.now.Add(time.Hour)
			},
		} {
			w := at(t, phase)
			disturb(w)
			watch(w)
		}
	}
	if testing.Short() {
		return
	}
	for _, row := range notices() {
		for _, from := range strings.Fields(row.from) {
			require.True(t, slices.ContainsFunc(row.reasons, func(reason string) bool {
				return happened[from+" "+string(row.to)+" "+reason] > 0
			}), "%s -> %s never happens", from, row.to)
		}
	}
}

// at brings a world into a phase.
func at(t *testing.T, phase v1alpha1.Phase) *world {
	t.Helper()
	w := newWorld(1)
	w.push("A")
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() })
	w.push("B")
	if phase == v1alpha1.PhaseAwaitingApproval {
		w.canary.Spec.Steps[2].Approval = &v1alpha1.StepApproval{}
	}
	verdict := analysis.VerdictPass
	if phase == v1alpha1.PhaseRollingBack || phase == v1alpha1.PhaseRejected {
		verdict = analysis.VerdictFail
	}
	w.seen.Gate = judged(verdict)
	w.until(t, func() bool { return w.canary.Status.Phase == phase })
	return w
}

// What people must look at is told when it begins, and once.
func TestStandingsAreToldOnce(t *testing.T) {
	w := holdingAt(t, 10)
	w.seen.Gate = &GateLook{Unavailable: "connection refused"}
	decision := Plan(&w.canary, w.observe(), w.now)
	require.Contains(t, decision.Events, Event{Warning: true, Reason: v1alpha1.ReasonMetricsUnavailable, Message: decision.Standing.Message})
	w.canary.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Reason: v1alpha1.ReasonMetricsUnavailable}}
	require.Empty(t, Plan(&w.canary, w.observe(), w.now).Events)
}

func TestEventsAreCutBetweenCharacters(t *testing.T) {
	cut := shortened(strings.Repeat("x", maxNote-1) + "€")
	require.True(t, utf8.ValidString(cut))
	require.Len(t, cut, maxNote-1)
}
