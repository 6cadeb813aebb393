// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
)

// TestBadInput: what cannot work is said where it was written, and nothing moves because of it.
func TestBadInput(t *testing.T) {
	t.Parallel()
	f := start(t, "bad-input", sampleapp.App{Replicas: 1, Canary: quick()}, 0)
	generation := f.generation()
	f.part("steps that fall", func() { f.playBadSteps(30, 20, 100) })
	f.part("steps without an end", func() { f.playBadSteps(10, 50) })
	f.part("no workload", f.playNoWorkload)
	state := f.timeline.State()
	require.True(t, resting(state), state.Describe())
	require.Empty(t, state.Runs)
	require.Equal(t, generation, f.generation())
}

// playBadSteps: Flux is refused and says with which words; the Canary is as it was.
func (f *fixture) playBadSteps(weights ...int) {
	before := f.timeline.State().Canary.Spec
	good := f.app.Canary
	f.app.Canary = &sampleapp.Canary{Steps: steps(time.Second, weights...)}
	f.commit("Write bad steps")
	require.NoError(f.t, f.flux.Poke(f.t.Context(), f.namespace))
	require.EventuallyWithT(f.t, func(c *assert.CollectT) {
		_, message, err := f.flux.Applied(f.t.Context(), f.namespace)
		require.NoError(c, err)
		assert.Contains(c, message, "spec.steps")
		assert.Regexp(c, "write them in ascending order|append \\{weight: 100", message)
	}, time.Minute, 200*time.Millisecond)
	require.Equal(f.t, before, f.timeline.State().Canary.Spec)

	f.app.Canary = good
	f.commit("Write good steps")
	last := f.commits[len(f.commits)-1].hash
	require.NoError(f.t, f.flux.Poke(f.t.Context(), f.namespace))
	// Other scenarios commit meanwhile: Flux may go past this commit.
	require.EventuallyWithT(f.t, func(c *assert.CollectT) {
		applied, message, err := f.flux.Applied(f.t.Context(), f.namespace)
		require.NoError(c, err)
		require.NotEmpty(c, applied, message)
		contained, err := f.repository.Contains(f.t.Context(), applied, last)
		require.NoError(c, err)
		assert.True(c, contained, "%s is applied: %s", applied, message)
	}, time.Minute, 200*time.Millisecond)
}

// playNoWorkload: a Canary of nothing is Stalled with the field's path.
func (f *fixture) playNoWorkload() {
	canary := &v1alpha1.Canary{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "nothing"},
		Spec:       v1alpha1.CanarySpec{TargetRef: v1alpha1.TargetReference{Name: "nothing"}},
	}
	require.NoError(f.t, f.Client.Create(f.t.Context(), canary))
	require.EventuallyWithT(f.t, func(c *assert.CollectT) {
		require.NoError(c, f.Client.Get(f.t.Context(), client.ObjectKeyFromObject(canary), canary))
		stalled := meta.FindStatusCondition(canary.Status.Conditions, v1alpha1.ConditionStalled)
		require.NotNil(c, stalled)
		assert.Equal(c, v1alpha1.ReasonTargetNotFound, stalled.Reason)
		assert.Contains(c, stalled.Message, "spec.targetRef.name")
		assert.True(c, meta.IsStatusConditionFalse(canary.Status.Conditions, v1alpha1.ConditionReady))
	}, time.Minute, 200*time.Millisecond)
	require.NoError(f.t, f.Client.Delete(f.t.Context(), canary))
	require.Eventually(f.t, func() bool {
		return client.IgnoreNotFound(f.Client.Get(f.t.Context(), client.ObjectKeyFromObject(canary), canary)) == nil
	}, time.Minute, 200*time.Millisecond, "it goes when asked")
}
