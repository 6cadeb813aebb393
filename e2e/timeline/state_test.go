// SPDX-License-Identifier: Apache-2.0

package timeline

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

func split(generation int64, weight int32, acknowledged bool) *v1alpha1.TrafficSplit {
	s := &v1alpha1.TrafficSplit{ObjectMeta: metav1.ObjectMeta{Name: "app", Generation: generation}}
	s.Spec.Revisions = []v1alpha1.RevisionWeight{
		{Name: v1alpha1.RevisionStable, PodTemplateHash: "s", Weight: 100 - weight},
		{Name: v1alpha1.RevisionCanary, PodTemplateHash: "c", Weight: weight},
	}
	s.Status.ObservedGeneration = generation
	status := metav1.ConditionFalse
	if acknowledged {
		status = metav1.ConditionTrue
	}
	s.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAcknowledged, Status: status}}
	return s
}

func TestTimeToZero(t *testing.T) {
	start := time.Unix(1000, 0)
	var s State
	for i, object := range []*v1alpha1.TrafficSplit{
		split(1, 0, true), split(2, 10, false), split(2, 10, true), split(2, 10, true), split(3, 0, false), split(3, 0, true),
	} {
		s = s.after(object, false, "app", start.Add(time.Duration(i)*time.Second))
	}
	s = s.after(split(9, 50, true), false, "other", start)
	require.Len(t, s.Shifts, 5, "what changes nothing is no shift")
	took, ok := s.TimeToZero("c")
	require.True(t, ok)
	require.Equal(t, 4*time.Second, took)
	_, ok = s.TimeToZero("x")
	require.False(t, ok)
	require.Len(t, s.Since(start.Add(4*time.Second)).Shifts, 2)
}

func TestStatesAreValues(t *testing.T) {
	pod := func(uid, hash string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Labels: map[string]string{LabelHash: hash}}}
	}
	one := State{}.after(pod("1", "a"), false, "app", time.Now())
	two := one.after(pod("2", "a"), false, "app", time.Now()).after(pod("3", "b"), false, "app", time.Now())
	three := two.after(pod("1", "a"), true, "app", time.Now())
	require.Equal(t, []types.UID{"1"}, one.UIDs("a"))
	require.Equal(t, []types.UID{"1", "2"}, two.UIDs("a"))
	require.Equal(t, []types.UID{"2"}, three.UIDs("a"))
	require.Empty(t, three.UIDs(""))
}

func TestPhases(t *testing.T) {
	canary := func(phase v1alpha1.Phase, weight int32) *v1alpha1.Canary {
		return &v1alpha1.Canary{ObjectMeta: metav1.ObjectMeta{Name: "app"}, Status: v1alpha1.CanaryStatus{Phase: phase, Weight: weight, Run: "r"}}
	}
	var s State
	for _, c := range []*v1alpha1.Canary{canary("Scaling", 0), canary("Scaling", 0), canary("Shifting", 5), canary("Holding", 5)} {
		s = s.after(c, false, "app", time.Now())
	}
	require.Len(t, s.Phases, 3)
	require.Contains(t, s.Describe(), "phase Holding")
}

func pod(uid, revision, version string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		UID: types.UID(uid), Labels: map[string]string{LabelHash: revision}, ResourceVersion: version,
	}}
}

// TestBirths: a pod is born once, and stays in the past when it is gone.
func TestBirths(t *testing.T) {
	start := time.Unix(1000, 0)
	var s State
	s = s.after(pod("1", "c", "7"), false, "app", start)
	s = s.after(pod("1", "c", "8"), false, "app", start.Add(time.Second))
	s = s.after(pod("1", "c", "9"), true, "app", start.Add(2*time.Second))
	s = s.after(pod("2", "s", "10"), false, "app", start.Add(3*time.Second))
	require.Equal(t, []Birth{{start, "1", "c", 7}, {start.Add(3 * time.Second), "2", "s", 10}}, s.Births)
	require.Len(t, s.Since(start.Add(time.Second)).Births, 1)
}

// TestAnalysed: the pods of a run's canary are those that it had while its weight was in force.
func TestAnalysed(t *testing.T) {
	canary := func(phase v1alpha1.Phase) *v1alpha1.Canary {
		return &v1alpha1.Canary{ObjectMeta: metav1.ObjectMeta{Name: "app"}, Status: v1alpha1.CanaryStatus{
			Phase: phase, Run: "app-1", Canary: &v1alpha1.RevisionStatus{PodTemplateHash: "c"},
		}}
	}
	var s State
	for _, object := range []any{
		canary(v1alpha1.PhaseScaling), pod("1", "c", "1"), canary(v1alpha1.PhaseHolding), pod("2", "c", "2"), pod("3", "s", "3"),
		canary(v1alpha1.PhasePromoting), pod("4", "c", "4"),
	} {
		s = s.after(object, false, "app", time.Unix(1000, 0))
	}
	require.Equal(t, map[string][]types.UID{"app-1": {"1", "2"}}, s.Analysed)
}
