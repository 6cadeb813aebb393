// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

func budget(total, each int32) *v1alpha1.RolloutPolicy {
	policy := &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Name: "all"}}
	if total > 0 {
		policy.Spec.MaxConcurrentRuns = &total
	}
	if each > 0 {
		policy.Spec.MaxConcurrentRunsPerNamespace = &each
	}
	return policy
}

func inQueue(namespace, name string, held time.Time, priority int32) v1alpha1.Canary {
	canary := v1alpha1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	canary.Spec.Priority = priority
	canary.Status.Phase, canary.Status.Run = v1alpha1.PhaseHeld, name+"-1"
	canary.Status.PhaseStartedAt = &metav1.Time{Time: held}
	canary.Status.Queue = &v1alpha1.QueueStatus{Policy: "all", Position: 1}
	return canary
}

func TestLine(t *testing.T) {
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	queue := []v1alpha1.Canary{
		inQueue("a", "late", at.Add(time.Minute), 0),
		inQueue("a", "first", at, 0),
		inQueue("b", "urgent", at.Add(10*time.Minute), 30),
		inQueue("b", "patient", at.Add(-time.Hour), -120),
		inQueue("b", "equal", at, 0),
	}
	for _, c := range []struct {
		name              string
		policy            *v1alpha1.RolloutPolicy
		running           []v1alpha1.RunningRun
		admitted, waiting []string
	}{
		{"one slot: a point of priority is worth a minute", budget(1, 0), nil,
			[]string{"urgent"}, []string{"first", "equal", "late", "patient"}},
		{"no slot", budget(1, 0), []v1alpha1.RunningRun{{Namespace: "c", Canary: "x", Run: "x-1"}},
			nil, []string{"urgent", "first", "equal", "late", "patient"}},
		{"a full namespace keeps nobody else back", budget(0, 1), []v1alpha1.RunningRun{{Namespace: "b", Canary: "x", Run: "x-1"}},
			[]string{"first"}, []string{"urgent", "equal", "late", "patient"}},
		{"both limits", budget(2, 1), nil, []string{"urgent", "first"}, []string{"equal", "late", "patient"}},
		{"no limit", budget(0, 0), nil, []string{"urgent", "first", "equal", "late", "patient"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.policy.Status.Running = c.running
			admitted, waiting := line(c.policy, queue)
			require.Equal(t, c.admitted, canaryNames(admitted))
			require.Equal(t, c.waiting, canaryNames(waiting))
			all := queue
			for _, entry := range c.running {
				other := inQueue(entry.Namespace, entry.Canary, at, 0)
				other.Status.Phase, other.Status.Queue = v1alpha1.PhaseHolding, nil
				all = append(all, other)
			}
			for i := range queue {
				slot := slotOf(c.policy, all, &queue[i])
				position := int32(0)
				for j, name := range c.waiting {
					if name == queue[i].Name {
						position = int32(j) + 1
					}
				}
				require.Equal(t, position, slot.Position, queue[i].Name)
			}
		})
	}
}

// Whose run is over, or who is gone, keeps nobody waiting, even if he has not given his slot back.
func TestSlotOfWhoIsGone(t *testing.T) {
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	waits, other := inQueue("a", "waits", at, 0), inQueue("b", "other", at, 0)
	policy := budget(1, 0)
	policy.Status.Running = []v1alpha1.RunningRun{{Namespace: "b", Canary: "other", Run: "other-1"}}
	other.Status.Phase, other.Status.Queue = v1alpha1.PhaseHolding, nil
	require.Equal(t, int32(1), slotOf(policy, []v1alpha1.Canary{waits, other}, &waits).Position)
	require.Zero(t, slotOf(policy, []v1alpha1.Canary{waits}, &waits).Position, "deleted")
	other.Status.Phase = v1alpha1.PhaseStable
	require.Zero(t, slotOf(policy, []v1alpha1.Canary{waits, other}, &waits).Position, "at rest")
	other.Status.Phase, other.Status.Run = v1alpha1.PhaseHolding, "other-2"
	require.Zero(t, slotOf(policy, []v1alpha1.Canary{waits, other}, &waits).Position, "in another run")
	require.Len(t, policy.Status.Running, 1, "nothing that was passed in is changed")
}

func canaryNames(list []v1alpha1.Canary) (out []string) {
	for _, canary := range list {
		out = append(out, canary.Name)
	}
	return out
}

// Whatever comes and goes: never more runs than slots, nobody waits while a slot is free for him, and
// nobody waits for ever, however many of higher priority keep coming.
func TestQueueIsFair(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 2))
		policy := budget(1+random.Int32N(3), random.Int32N(3))
		now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
		var queue []v1alpha1.Canary
		left := map[string]int{}
		came := map[string]time.Time{}
		for minute := range 3000 {
			now = now.Add(time.Minute)
			if random.IntN(3) == 0 {
				name := fmt.Sprintf("c%d", minute)
				queue = append(queue, inQueue(string(rune('a'+random.IntN(3))), name, now, random.Int32N(2001)-1000))
				came[name] = now
			}
			var still []v1alpha1.RunningRun
			for _, entry := range policy.Status.Running {
				if left[entry.Canary]--; left[entry.Canary] > 0 {
					still = append(still, entry)
				}
			}
			policy.Status.Running = still
			admitted, waiting := line(policy, queue)
			for _, canary := range admitted {
				policy.Status.Running = append(policy.Status.Running, v1alpha1.RunningRun{Namespace: canary.Namespace, Canary: canary.Name, Run: canary.Status.Run})
				left[canary.Name] = 1 + random.IntN(3)
			}
			queue = waiting
			requireBudgetKept(t, policy)
			for _, canary := range waiting {
				require.False(t, room(policy, policy.Status.Running, canary.Namespace, canary.Name), "%s waits beside a free slot", canary.Name)
				// Overtaken only by what came within 2000 minutes; those are served in a bounded time.
				if now.Sub(came[canary.Name]) > 2900*time.Minute && policy.Spec.MaxConcurrentRunsPerNamespace == nil {
					require.LessOrEqual(t, len(waiting), len(came), "%s starves", canary.Name)
				}
			}
			for i := range waiting {
				for j := range waiting {
					if came[waiting[i].Name].Add(2000 * time.Minute).Before(came[waiting[j].Name]) {
						require.Less(t, i, j, "%s is overtaken by one that came 2000 minutes later", waiting[i].Name)
					}
				}
			}
		}
	}
}

func requireBudgetKept(t *testing.T, policy *v1alpha1.RolloutPolicy) {
	t.Helper()
	here := map[string]int32{}
	for _, entry := range policy.Status.Running {
		here[entry.Namespace]++
		if limit := policy.Spec.MaxConcurrentRunsPerNamespace; limit != nil {
			require.LessOrEqual(t, here[entry.Namespace], *limit)
		}
	}
	if limit := policy.Spec.MaxConcurrentRuns; limit != nil {
		require.LessOrEqual(t, len(policy.Status.Running), int(*limit))
	}
}

// staleReader answers every read of the policy with what it was at first.
type staleReader struct {
	client.Reader
	policy *v1alpha1.RolloutPolicy
}

func (r staleReader) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if into, ok := object.(*v1alpha1.RolloutPolicy); ok {
		r.policy.DeepCopyInto(into)
		return nil
	}
	return r.Reader.Get(ctx, key, object, options...)
}

// Two that saw the same free slot, in two controllers with a stale view each: one gets it.
func TestASlotIsNeverGivenTwice(t *testing.T) {
	scheme := runtime.NewScheme()
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	a, b := inQueue("shop", "a", at, 0), inQueue("shop", "b", at, 0)
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(budget(1, 0), &a, &b).
		WithStatusSubresource(&v1alpha1.RolloutPolicy{}, &v1alpha1.Canary{}).Build()
	stored := func() *v1alpha1.RolloutPolicy {
		policy := &v1alpha1.RolloutPolicy{}
		require.NoError(t, c.Get(t.Context(), client.ObjectKey{Name: "all"}, policy))
		return policy
	}
	take := func(canary v1alpha1.Canary, reader client.Reader) error {
		h := &hands{client: c, reader: reader, scene: &scene{canary: &canary}}
		return h.carryOut(t.Context(), []Effect{TakeSlot{Policy: "all", Run: canary.Status.Run}})
	}
	stale := staleReader{Reader: c, policy: stored()}
	require.NoError(t, take(a, stale))
	require.True(t, apierrors.IsConflict(take(b, stale)), "the stale view has a free slot")
	require.True(t, apierrors.IsConflict(take(b, c)), "and the true one has none")
	require.Equal(t, []v1alpha1.RunningRun{{Namespace: "shop", Canary: "a", Run: "a-1"}}, stored().Status.Running)
	require.NoError(t, take(a, c), "its own slot is its own")

	// The run of a is over, and its controller died before it gave the slot back.
	ended := a.DeepCopy()
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(ended), ended))
	ended.Status.Phase = v1alpha1.PhaseRejected
	require.NoError(t, c.Status().Update(t.Context(), ended))
	require.NoError(t, take(b, c))
	require.Equal(t, []v1alpha1.RunningRun{{Namespace: "shop", Canary: "b", Run: "b-1"}}, stored().Status.Running)
}

// A run waits in the queue, asks for a free slot when it could be seen there, begins with it, and
// gives it back when it is over.
func TestRunTakesAndGivesBackASlot(t *testing.T) {
	w := newWorld(1)
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() })
	w.push("B")
	w.seen.Slots = []Slot{{Policy: "all", Position: 2, Used: 1, Limit: "maxConcurrentRuns 1"}}
	w.until(t, func() bool { return w.canary.Status.Queue != nil })
	decision := Plan(&w.canary, w.observe(), w.now)
	require.Equal(t, v1alpha1.ReasonWaitingForBudget, decision.Standing.Reason)
	require.Contains(t, decision.Standing.Message, "number 2 in the queue of RolloutPolicy all: 1 runs are under way (maxConcurrentRuns 1)")
	for _, position := range []int32{2, 1} {
		w.seen.Slots[0].Position = position
		decision = Plan(&w.canary, w.observe(), w.now)
		require.NotContains(t, decision.Effects, TakeSlot{Policy: "all", Run: "app-1"}, "number %d asks for no slot: none is free", position)
		require.False(t, decision.Wake.IsZero(), "it looks again by itself")
	}

	w.seen.Slots[0].Position = 0
	require.Contains(t, Plan(&w.canary, w.observe(), w.now).Effects, TakeSlot{Policy: "all", Run: "app-1"})
	require.Nil(t, w.seen.Split, "nothing has begun")

	w.seen.Slots[0].Held, w.seen.Slots[0].Mine = true, true
	w.seen.Gate = judged(analysis.VerdictPass)
	released := false
	w.until(t, func() bool {
		effects := Plan(&w.canary, w.observe(), w.now).Effects
		for _, effect := range effects {
			if effect == (ReleaseSlot{Policy: "all"}) {
				require.Equal(t, v1alpha1.PhaseStable, w.canary.Status.Phase, "only once the status says that the run is over")
				released = true
			}
		}
		return released
	})
	require.Nil(t, w.canary.Status.Queue)
}

// A run that began before the policy came is counted, whether there is room for it or not.
func TestRunFromBeforeThePolicyTakesASlot(t *testing.T) {
	w := holdingAt(t, 50)
	w.seen.Gate = judged(analysis.VerdictWait)
	takes := TakeSlot{Policy: "all", Run: w.canary.Status.Run, Beyond: true}
	w.seen.Slots = []Slot{{Policy: "all", Position: 1, Used: 1, Limit: "maxConcurrentRuns 1"}}
	require.Contains(t, Plan(&w.canary, w.observe(), w.now).Effects, takes)
	w.seen.Slots[0].Mine, w.seen.Slots[0].Held = true, true
	require.NotContains(t, Plan(&w.canary, w.observe(), w.now).Effects, takes)
}

// A policy that cannot be read lets nothing rise, and says why; a bad canary is still taken back.
func TestPolicyThatCannotBeRead(t *testing.T) {
	w := holdingAt(t, 10)
	w.seen.PolicyFault = "RolloutPolicy all: spec.namespaceSelector: no such operator"
	w.seen.Gate = judged(analysis.VerdictPass)
	w.now = w.now.Add(time.Hour)
	decision := Plan(&w.canary, w.observe(), w.now)
	require.Equal(t, v1alpha1.PhaseHolding, decision.Status.Phase)
	require.Equal(t, v1alpha1.ReasonInvalidSpec, decision.Standing.Reason)
	require.Contains(t, decision.Standing.Message, "spec.namespaceSelector")
	w.seen.Gate = judged(analysis.VerdictFail)
	require.Equal(t, v1alpha1.PhaseRollingBack, Plan(&w.canary, w.observe(), w.now).Status.Phase)
}

func TestEmergencyStop(t *testing.T) {
	stop := func(mode v1alpha1.EmergencyMode) []v1alpha1.RolloutPolicy {
		policy := v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Name: "all"}}
		policy.Spec.EmergencyStop = &v1alpha1.EmergencyStop{Mode: mode, Reason: "payments are down"}
		return []v1alpha1.RolloutPolicy{policy}
	}
	w := holdingAt(t, 50)
	w.seen.Policies = stop(v1alpha1.EmergencyFreeze)
	w.now = w.now.Add(time.Hour)
	w.reconcile(false)
	require.Equal(t, v1alpha1.PhaseHolding, w.canary.Status.Phase)
	decision := Plan(&w.canary, w.observe(), w.now)
	require.Equal(t, v1alpha1.ReasonEmergencyStop, decision.Standing.Reason)
	require.Contains(t, decision.Standing.Message, "payments are down")

	w.seen.Policies = stop(v1alpha1.EmergencyRollBack)
	w.canary.Spec.Suspend = true
	w.reconcile(false)
	require.Equal(t, v1alpha1.PhaseRollingBack, w.canary.Status.Phase, "even a suspended run")
	require.Zero(t, w.seen.Split.CanaryWeight)
	w.canary.Spec.Suspend = false
	w.until(t, func() bool { return w.canary.Status.Run == "app-2" })
	require.Equal(t, v1alpha1.OutcomeCancelled, w.seen.run("app-1").Record.Outcome, "the template did nothing wrong")
	for range 20 {
		w.calmTick()
		w.reconcile(false)
	}
	require.Equal(t, v1alpha1.PhaseHeld, w.canary.Status.Phase)
	w.seen.Policies = nil
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() })
	require.Equal(t, "B", w.seen.serving().Template.Spec.Containers[0].Image)
	require.Empty(t, w.violation)
}

// Going back to what was stable is what an emergency asks for.
func TestEmergencyHoldsUpNoReturn(t *testing.T) {
	w := newWorld(1)
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() })
	w.seen.Gate = judged(analysis.VerdictPass)
	promoted := func(name string) func() bool {
		return func() bool {
			run := w.seen.run(name)
			return run != nil && run.Record.Outcome == v1alpha1.OutcomePromoted && w.canary.Status.Phase == v1alpha1.PhaseStable
		}
	}
	w.push("B")
	w.until(t, promoted("app-1"))
	policy := v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Name: "all"}}
	policy.Spec.EmergencyStop = &v1alpha1.EmergencyStop{Mode: v1alpha1.EmergencyFreeze, Reason: "payments are down"}
	w.seen.Policies = []v1alpha1.RolloutPolicy{policy}
	w.push("A")
	w.until(t, promoted("app-2"))
	require.Equal(t, v1alpha1.RunReturn, w.seen.run("app-2").Spec.Kind)
}
