// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// shelf has ReplicaSets and TrafficSplits by name, written as uid/version, and counts what it is asked.
type shelf struct {
	sets, splits map[string]string
	asked        []string
}

func (s *shelf) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	s.asked = append(s.asked, key.Name)
	from := s.sets
	if _, split := into.(*v1alpha1.TrafficSplit); split {
		from = s.splits
	}
	found, ok := from[key.Name]
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "things"}, key.Name)
	}
	put(into, key.Name, found)
	return nil
}

func (s *shelf) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	versions := into.(*metav1.PartialObjectMetadataList)
	for name, found := range s.sets {
		versions.Items = append(versions.Items, metav1.PartialObjectMetadata{})
		put(&versions.Items[len(versions.Items)-1], name, found)
	}
	return nil
}

func put(into client.Object, name, what string) {
	uid, version, _ := strings.Cut(what, "/")
	into.SetName(name)
	into.SetUID(types.UID(uid))
	into.SetResourceVersion(version)
}

// What is remembered counts as long as the watch knows nothing newer; what only one of the two knows is
// asked for.
func TestRecallSets(t *testing.T) {
	for name, c := range map[string]struct {
		kept, watched, there map[string]string
		asked                []string
	}{
		"nothing happened":             {map[string]string{"a": "1/7"}, map[string]string{"a": "1/7"}, map[string]string{"a": "1/7"}, nil},
		"own write, watch late":        {map[string]string{"a": "1/10"}, map[string]string{"a": "1/9"}, map[string]string{"a": "1/10"}, nil},
		"somebody wrote":               {map[string]string{"a": "1/9"}, map[string]string{"a": "1/10"}, map[string]string{"a": "1/11"}, []string{"a"}},
		"made anew":                    {map[string]string{"a": "1/9"}, map[string]string{"a": "2/8"}, map[string]string{"a": "2/8"}, []string{"a"}},
		"just made":                    {map[string]string{"a": "1/9"}, map[string]string{}, map[string]string{"a": "1/9"}, []string{"a"}},
		"made and deleted":             {map[string]string{"a": "1/9"}, map[string]string{}, map[string]string{}, []string{"a"}},
		"just deleted":                 {map[string]string{}, map[string]string{"a": "1/9"}, map[string]string{}, []string{"a"}},
		"somebody made":                {map[string]string{}, map[string]string{"a": "1/9"}, map[string]string{"a": "1/9"}, []string{"a"}},
		"versions that are no numbers": {map[string]string{"a": "1/x"}, map[string]string{"a": "1/x"}, map[string]string{"a": "1/x"}, []string{"a"}},
		"one of several": {map[string]string{"a": "1/7", "b": "2/7", "c": "3/7"}, map[string]string{"a": "1/7", "b": "2/8", "c": "3/7"},
			map[string]string{"a": "1/7", "b": "2/8", "c": "3/7"}, []string{"b"}},
	} {
		t.Run(name, func(t *testing.T) {
			last := &scene{canary: &v1alpha1.Canary{}, sets: map[string]*appsv1.ReplicaSet{}}
			for name, what := range c.kept {
				last.sets[name] = &appsv1.ReplicaSet{}
				put(last.sets[name], name, what)
			}
			there := &shelf{sets: c.there}
			r := &recall{Reader: there, watched: &shelf{sets: c.watched}, last: last}
			for range 2 {
				var list appsv1.ReplicaSetList
				require.NoError(t, r.List(t.Context(), &list))
				found := map[string]string{}
				for _, rs := range list.Items {
					found[rs.Name] = string(rs.UID) + "/" + rs.ResourceVersion
				}
				require.Equal(t, c.there, found)
			}
			require.Equal(t, c.asked, there.asked, "the second list of a look asks nothing")
		})
	}
}

// A split is watched whole: what the watch has that is newer is taken from it.
func TestRecallSplit(t *testing.T) {
	for name, c := range map[string]struct {
		kept, watched, there, want string
		asked                      int
	}{
		"none":               {"", "", "", "", 0},
		"nothing happened":   {"1/7", "1/7", "1/7", "1/7", 0},
		"own write":          {"1/9", "1/8", "1/9", "1/9", 0},
		"a new status":       {"1/7", "1/8", "1/8", "1/8", 0},
		"just made":          {"1/7", "", "1/7", "1/7", 1},
		"somebody deleted":   {"1/7", "", "", "", 1},
		"just deleted":       {"", "1/7", "", "", 1},
		"somebody made anew": {"1/9", "2/8", "2/8", "2/8", 1},
	} {
		t.Run(name, func(t *testing.T) {
			on := func(what string) *shelf {
				if what == "" {
					return &shelf{}
				}
				return &shelf{splits: map[string]string{"app": what}}
			}
			last := &scene{canary: &v1alpha1.Canary{}}
			if c.kept != "" {
				last.split = &v1alpha1.TrafficSplit{}
				put(last.split, "app", c.kept)
			}
			there, split := on(c.there), &v1alpha1.TrafficSplit{}
			r := &recall{Reader: there, watched: on(c.watched), last: last}
			err := r.Get(t.Context(), client.ObjectKey{Name: "app"}, split)
			require.Len(t, there.asked, c.asked)
			if c.want == "" {
				require.True(t, apierrors.IsNotFound(err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, string(split.UID)+"/"+split.ResourceVersion)
		})
	}
}

// Numbers of a verdict can wait a moment to be written. Everything else is written, and makes a look read
// anew.
func TestCountsCanWait(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	status := func() *v1alpha1.CanaryStatus {
		return &v1alpha1.CanaryStatus{
			Phase: v1alpha1.PhaseHolding, StepStartedAt: stamp(now), Canary: &v1alpha1.RevisionStatus{ReadyReplicas: 2},
			Verdict:    &v1alpha1.VerdictStatus{Verdict: "wait", Reason: "3 of 100", Time: metav1.NewTime(now)},
			Conditions: []metav1.Condition{{Type: "Ready", Reason: "Progressing", Message: "for 10s more", LastTransitionTime: metav1.NewTime(now)}},
		}
	}
	for name, c := range map[string]struct {
		change    func(*v1alpha1.CanaryStatus)
		later     time.Duration
		same, can bool
	}{
		"counts": {func(s *v1alpha1.CanaryStatus) {
			s.Verdict.Reason, s.Verdict.Time = "4 of 120", metav1.NewTime(now.Add(time.Second))
		}, time.Second, true, true},
		"counts after a while": {func(s *v1alpha1.CanaryStatus) {
			s.Verdict.Reason, s.Verdict.Time = "4 of 120", metav1.NewTime(now.Add(countsEvery))
		}, countsEvery, true, false},
		"a text of a judgement": {func(s *v1alpha1.CanaryStatus) {
			s.Verdict.Time = metav1.NewTime(now.Add(time.Second))
			s.Conditions[0].Message, s.Conditions[0].LastTransitionTime = "for 9s more", metav1.NewTime(now.Add(time.Second))
		}, time.Second, true, true},
		"a text of something else": {func(s *v1alpha1.CanaryStatus) {
			s.Conditions[0].Message, s.Conditions[0].LastTransitionTime = "proxy b is late", metav1.NewTime(now.Add(time.Second))
		}, time.Second, true, false},
		"a reason": {func(s *v1alpha1.CanaryStatus) {
			s.Verdict.Time, s.Conditions[0].Reason = metav1.NewTime(now.Add(time.Second)), "Paused"
		}, time.Second, true, false},
		"another verdict": {func(s *v1alpha1.CanaryStatus) { s.Verdict.Verdict = "pass" }, time.Second, false, false},
		"no verdict":      {func(s *v1alpha1.CanaryStatus) { s.Verdict = nil }, time.Second, false, false},
		"a phase":         {func(s *v1alpha1.CanaryStatus) { s.Phase = v1alpha1.PhaseScaling }, time.Second, false, false},
		"pods":            {func(s *v1alpha1.CanaryStatus) { s.Canary.ReadyReplicas = 1 }, time.Second, false, false},
		"a clock":         {func(s *v1alpha1.CanaryStatus) { s.StepStartedAt = stamp(now.Add(time.Minute)) }, time.Second, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := status(), status()
			c.change(after)
			require.Equal(t, c.same, sameButCounts(before, after))
			require.Equal(t, c.can, canWait(before, after, now.Add(c.later)))
		})
	}
	before, after := status(), status()
	before.Phase, after.Phase = v1alpha1.PhaseAwaitingApproval, v1alpha1.PhaseAwaitingApproval
	after.Verdict.Time = metav1.NewTime(now.Add(time.Second))
	require.False(t, canWait(before, after, now.Add(time.Second)), "people wait for that text")
}

// What is remembered of runs that have ended is not their records.
func TestRecallKeepsNoOldRecords(t *testing.T) {
	ended := metav1.Now()
	run := func(name string, ended *metav1.Time) v1alpha1.CanaryRun {
		one := v1alpha1.CanaryRun{Record: v1alpha1.CanaryRunRecord{EndedAt: ended, Entries: []v1alpha1.RunEntry{{Number: 1}}}}
		one.Name = name
		return one
	}
	canary := &v1alpha1.Canary{Status: v1alpha1.CanaryStatus{Run: "app-2"}}
	var kept scenes
	kept.put(types.NamespacedName{Name: "app"}, &scene{canary: canary, Observed: Observed{Runs: []v1alpha1.CanaryRun{
		run("app-3", nil), run("app-2", &ended), run("app-1", &ended),
	}}})
	var entries []int
	for _, one := range kept.take(types.NamespacedName{Name: "app"}).Runs {
		entries = append(entries, len(one.Record.Entries))
	}
	require.Equal(t, []int{1, 1, 0}, entries)
	require.Nil(t, kept.take(types.NamespacedName{Name: "app"}), "it is taken once")
}
