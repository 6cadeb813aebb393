// SPDX-License-Identifier: Apache-2.0

//go:build e2e && whole

package scenario

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	policyv1 "k8s.io/api/policy/v1"

	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// TestDisruptionBudgets: in the midst of a run, with a budget of each form, the node that has most pods
// of the canary is drained, pods of stable on it too. Each budget lets each pod go in its turn, and no
// request fails.
func TestDisruptionBudgets(t *testing.T) {
	f := start(t, "budgets", sampleapp.App{
		Replicas: 3, Disruption: &sampleapp.Disruption{MaxUnavailable: "1"},
		Canary: &sampleapp.Canary{Steps: append(steps(20*time.Second, 50), steps(5*time.Second, 100)...), Drain: 10 * time.Second},
	}, leastRate)
	f.release("v2")
	state := f.await("the canary has weight 50", holdingAt(50))
	f.pause(state.Canary.Status.Run)
	for name, budget := range map[string]sampleapp.Disruption{
		"a number unavailable": {MaxUnavailable: "1"},
		"a share unavailable":  {MaxUnavailable: "20%"},
		"a number available":   {MinAvailable: "4"},
		"a share available":    {MinAvailable: "70%"},
	} {
		f.part(name, func() { f.playBudget(budget) })
	}
	f.pause("")
	f.expectPromoted(f.awaitRun(""))
	f.expectNoFailures()
}

func (f *fixture) playBudget(budget sampleapp.Disruption) {
	f.app.Disruption = &budget
	f.commit("Change the budget")
	require.NoError(f.t, f.flux.Poke(f.t.Context(), f.namespace))
	require.Eventually(f.t, func() bool {
		var now policyv1.PodDisruptionBudget
		err := f.Client.Get(f.t.Context(), f.key(), &now)
		return err == nil && budget == forms(now.Spec) && now.Status.ObservedGeneration == now.Generation
	}, time.Minute, 300*time.Millisecond, "the budget is in force")
	state := f.await("two pods of the canary and three of stable are ready", func(s timeline.State) bool {
		r := s.LatestRun()
		return ready(s, r.Spec.Candidate.PodTemplateHash) == 2 && ready(s, r.Spec.Stable.PodTemplateHash) == 3
	})
	node, canary, stable := busiest(state)
	require.NotZero(f.t, canary)
	f.t.Logf("%+v: node %s is drained of %d pods of the canary and %d of stable", budget, node, canary, stable)
	f.drain(node)
	f.expectNoFailures()
}

// forms is a budget as the sample application writes it.
func forms(spec policyv1.PodDisruptionBudgetSpec) (out sampleapp.Disruption) {
	if spec.MaxUnavailable != nil {
		out.MaxUnavailable = spec.MaxUnavailable.String()
	}
	if spec.MinAvailable != nil {
		out.MinAvailable = spec.MinAvailable.String()
	}
	return out
}

// ready counts a revision's pods that are.
func ready(s timeline.State, revision string) int {
	count := 0
	for _, pod := range s.PodsOf(revision) {
		if isReady(pod) {
			count++
		}
	}
	return count
}
