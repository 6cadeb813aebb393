// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

func TestMaxHold(t *testing.T) {
	for _, c := range []struct {
		name   string
		action v1alpha1.InconclusiveAction
		gate   *GateLook
		after  time.Duration
		phase  v1alpha1.Phase
		reason string
	}{
		{"not yet", v1alpha1.InconclusiveRollback, judged(analysis.VerdictWait), 59 * time.Minute, v1alpha1.PhaseHolding, v1alpha1.ReasonProgressing},
		{"hold", v1alpha1.InconclusiveHold, judged(analysis.VerdictWait), 61 * time.Minute, v1alpha1.PhaseHolding, v1alpha1.ReasonInconclusive},
		{"hold without metrics", "", &GateLook{Unavailable: "refused"}, 61 * time.Minute, v1alpha1.PhaseHolding, v1alpha1.ReasonInconclusive},
		{"rollback", v1alpha1.InconclusiveRollback, judged(analysis.VerdictHold), 61 * time.Minute, v1alpha1.PhaseRollingBack, v1alpha1.ReasonRollingBack},
		{"rollback without metrics", v1alpha1.InconclusiveRollback, &GateLook{Unavailable: "refused"}, 61 * time.Minute, v1alpha1.PhaseRollingBack, v1alpha1.ReasonRollingBack},
		{"promote", v1alpha1.InconclusivePromote, judged(analysis.VerdictWait), 61 * time.Minute, v1alpha1.PhaseScaling, v1alpha1.ReasonProgressing},
		{"fail is fail", v1alpha1.InconclusivePromote, judged(analysis.VerdictFail), 61 * time.Minute, v1alpha1.PhaseRollingBack, v1alpha1.ReasonRollingBack},
		{"unknown action", "explode", judged(analysis.VerdictWait), 61 * time.Minute, v1alpha1.PhaseHolding, v1alpha1.ReasonInvalidSpec},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := holdingAt(t, 10)
			w.canary.Spec.MaxHold = &metav1.Duration{Duration: time.Hour}
			w.canary.Spec.OnInconclusive = c.action
			seen := w.observe()
			seen.Gate = c.gate
			decision := Plan(&w.canary, seen, w.now.Add(c.after))
			require.Equal(t, c.phase, decision.Status.Phase)
			require.Equal(t, c.reason, decision.Standing.Reason)
		})
	}
}

// A phase that lasts too long says since when and what it waits for, and warns once.
func TestDeadlines(t *testing.T) {
	w := holdingAt(t, 10)
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseShifting })
	w.reconcile(false)
	w.seen.Split.Laggards, w.seen.Split.Carrying = []string{"shop/till-7"}, 3
	w.now = w.now.Add(9 * time.Minute)
	require.Equal(t, v1alpha1.ReasonWaitingForProxies, Plan(&w.canary, w.observe(), w.now).Standing.Reason)
	w.now = w.now.Add(2 * time.Minute)
	decision := Plan(&w.canary, w.observe(), w.now)
	require.Equal(t, v1alpha1.ReasonDeadlinePassed, decision.Standing.Reason)
	require.Contains(t, decision.Standing.Message, "spec.deadlines.shifting (10m0s)")
	require.Contains(t, decision.Standing.Message, "shop/till-7")
	require.Len(t, decision.Events, 1)
	w.canary.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Reason: v1alpha1.ReasonDeadlinePassed}}
	require.Empty(t, Plan(&w.canary, w.observe(), w.now).Events, "said once")
}

func TestScalingDeadlineRollsBack(t *testing.T) {
	w := holdingAt(t, 10)
	w.canary.Spec.Deadlines.Scaling = &metav1.Duration{Duration: 5 * time.Minute}
	w.canary.Status.Phase, w.canary.Status.PhaseStartedAt = v1alpha1.PhaseScaling, stamp(w.now)
	w.canary.Status.Step = 1
	w.reconcile(false) // asks for the pods
	w.reconcile(false)
	require.Equal(t, v1alpha1.PhaseScaling, Plan(&w.canary, w.observe(), w.now.Add(4*time.Minute)).Status.Phase, "the Deployment's own is 1m")
	require.Equal(t, v1alpha1.PhaseRollingBack, Plan(&w.canary, w.observe(), w.now.Add(6*time.Minute)).Status.Phase)
}

func TestDependencies(t *testing.T) {
	for _, c := range []struct {
		phase v1alpha1.Phase
		want  string
	}{
		{"", "does not exist"},
		{v1alpha1.PhaseHolding, "is in a run, phase Holding"},
		{v1alpha1.PhaseRejected, "holds a rejected template"},
	} {
		w := holdingAt(t, 10)
		w.now = w.now.Add(time.Minute)
		w.seen.Dependencies = []Dependency{{Namespace: "shop", Name: "ok", Phase: v1alpha1.PhaseStable}, {Namespace: "shop", Name: "db", Phase: c.phase}}
		decision := Plan(&w.canary, w.observe(), w.now)
		require.Equal(t, v1alpha1.PhaseHolding, decision.Status.Phase)
		require.Equal(t, v1alpha1.ReasonWaitingForDependency, decision.Standing.Reason)
		require.Contains(t, decision.Standing.Message, "shop/db "+c.want)
		w.seen.Dependencies[1].Phase = v1alpha1.PhaseStable
		require.Equal(t, v1alpha1.PhaseScaling, Plan(&w.canary, w.observe(), w.now).Status.Phase)
	}
}

func TestCircleOfDependencies(t *testing.T) {
	canaries := map[types.NamespacedName]*v1alpha1.Canary{}
	add := func(name string, on ...string) *v1alpha1.Canary {
		canary := &v1alpha1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
		for _, other := range on {
			canary.Spec.DependsOn = append(canary.Spec.DependsOn, v1alpha1.CanaryReference{Name: other})
		}
		canaries[types.NamespacedName{Namespace: "shop", Name: name}] = canary
		return canary
	}
	get := func(key types.NamespacedName) (*v1alpha1.Canary, error) {
		if canary := canaries[key]; canary != nil {
			return canary, nil
		}
		return &v1alpha1.Canary{}, nil
	}
	web := add("web", "api", "cache")
	api := add("api", "db", "absent")
	add("db", "api")
	add("cache")
	self := add("self", "self")
	for _, c := range []struct {
		from *v1alpha1.Canary
		want []string
	}{
		{web, nil},
		{api, []string{"shop/api", "shop/db", "shop/api"}},
		{self, []string{"shop/self", "shop/self"}},
	} {
		got, err := circle(c.from, get)
		require.NoError(t, err)
		require.Equal(t, c.want, got, c.from.Name)
	}
	w := holdingAt(t, 10)
	w.now = w.now.Add(time.Minute)
	w.seen.Circle = []string{"shop/app", "shop/db", "shop/app"}
	decision := Plan(&w.canary, w.observe(), w.now)
	require.True(t, decision.Standing.Stalled)
	require.Contains(t, decision.Standing.Message, "shop/app -> shop/db -> shop/app is a circle")
}
