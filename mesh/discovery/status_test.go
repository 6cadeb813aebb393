// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh"
)

func TestDesiredStatus(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	cases := map[string]struct {
		counts  v1alpha1.ProxyCounts
		status  metav1.ConditionStatus
		message string
	}{
		"nobody carries": {v1alpha1.ProxyCounts{}, metav1.ConditionTrue, "no connected proxy carries the workload's traffic"},
		"all":            {v1alpha1.ProxyCounts{Carrying: 3, Acknowledged: 3}, metav1.ConditionTrue, "all 3 proxies that carry the workload's traffic run generation 7"},
		"some":           {v1alpha1.ProxyCounts{Carrying: 3, Acknowledged: 1, Laggards: []string{"a/b", "a/c"}}, metav1.ConditionFalse, "1 of 3 proxies run generation 7; waiting for a/b, a/c"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := desiredStatus(v1alpha1.TrafficSplitStatus{ObservedGeneration: -1}, 7, c.counts, now)
			require.Equal(t, int64(7), got.ObservedGeneration)
			require.Equal(t, c.counts, got.Proxies)
			condition := meta.FindStatusCondition(got.Conditions, v1alpha1.ConditionAcknowledged)
			require.Equal(t, c.status, condition.Status)
			require.Equal(t, c.message, condition.Message)
			require.Equal(t, int64(7), condition.ObservedGeneration)
			again := desiredStatus(got, 7, c.counts, now.Add(time.Hour))
			require.Equal(t, got, again, "the time is that of the transition")
		})
	}
}

func TestPaceOfWrites(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	split := mesh.Split{Workload: "shop/checkout", Revisions: []mesh.RevisionWeight{
		{Name: "stable", PodTemplateHash: "aaa", Weight: 100}, {Name: "canary", PodTemplateHash: "bbb", Weight: 0},
	}}
	status := func(generation int64, carrying, acknowledged int32, open ...v1alpha1.RevisionOpen) v1alpha1.TrafficSplitStatus {
		made := desiredStatus(v1alpha1.TrafficSplitStatus{}, generation, v1alpha1.ProxyCounts{Carrying: carrying, Acknowledged: acknowledged}, start)
		made.Revisions = open
		return made
	}
	unsplit := func(status v1alpha1.TrafficSplitStatus) v1alpha1.TrafficSplitStatus {
		status.Unsplit++
		return status
	}
	onStable := v1alpha1.RevisionOpen{PodTemplateHash: "aaa", Requests: 1}
	onCanary := v1alpha1.RevisionOpen{PodTemplateHash: "bbb", Requests: 1}
	cases := map[string]struct {
		written, desired v1alpha1.TrafficSplitStatus
		sinceWrite       time.Duration
		differed         time.Duration // for how long it has differed already
		wait             time.Duration
	}{
		"nothing new":                        {status(1, 2, 2), status(1, 2, 2), time.Hour, 0, expiryInterval},
		"first acknowledgement":              {v1alpha1.TrafficSplitStatus{ObservedGeneration: -1}, status(1, 2, 2), time.Hour, 0, 0},
		"acknowledgement":                    {status(2, 2, 1), status(2, 2, 2), time.Hour, 0, 0},
		"acknowledgement of the next":        {status(1, 2, 2), status(2, 2, 2), time.Hour, 0, 0},
		"acknowledgement soon after a write": {status(2, 2, 1), status(2, 2, 2), 50 * time.Millisecond, 0, 150 * time.Millisecond},
		"next not acknowledged yet":          {status(1, 2, 2), status(2, 2, 0), time.Hour, 0, 200 * time.Millisecond},
		"next still not acknowledged":        {status(1, 2, 2), status(2, 2, 0), time.Hour, 200 * time.Millisecond, 0},
		"one more proxy":                     {status(1, 2, 2), status(1, 3, 3), time.Hour, 0, 200 * time.Millisecond},
		"more open on a weighted revision":   {status(1, 2, 2), status(1, 2, 2, onStable), time.Second, 0, 4 * time.Second},
		"more unsplit":                       {status(1, 2, 2), unsplit(status(1, 2, 2)), time.Second, 0, 4 * time.Second},
		"that, after long":                   {status(1, 2, 2), status(1, 2, 2, onStable), 6 * time.Second, 0, 0},
		"last request on the drained ends":   {status(1, 2, 2, onCanary), status(1, 2, 2), time.Second, 0, 0},
		"that, soon after a write":           {status(1, 2, 2, onCanary), status(1, 2, 2), 150 * time.Millisecond, 0, 50 * time.Millisecond},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			known := &record{written: c.written, writtenAt: start.Add(-c.sinceWrite)}
			if c.differed > 0 {
				known.differsSince = start.Add(-c.differed)
			}
			wait, due := known.due(&c.desired, split, start)
			require.Equal(t, c.wait == 0, due)
			if !due {
				require.Equal(t, c.wait, wait)
			}
		})
	}
}

func TestWhatPassesIsNotWritten(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	written := desiredStatus(v1alpha1.TrafficSplitStatus{}, 1, v1alpha1.ProxyCounts{Carrying: 2, Acknowledged: 2}, start)
	known := &record{written: written, writtenAt: start}
	worse := desiredStatus(written, 1, v1alpha1.ProxyCounts{Carrying: 3, Acknowledged: 2}, start)
	_, due := known.due(&worse, mesh.Split{}, start.Add(time.Second))
	require.False(t, due)
	_, due = known.due(&written, mesh.Split{}, start.Add(1100*time.Millisecond))
	require.False(t, due)
	_, due = known.due(&worse, mesh.Split{}, start.Add(1250*time.Millisecond))
	require.False(t, due, "it began to differ anew")
	_, due = known.due(&worse, mesh.Split{}, start.Add(1450*time.Millisecond))
	require.True(t, due)
}

func TestRetryHoldsBack(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	desired := desiredStatus(v1alpha1.TrafficSplitStatus{}, 1, v1alpha1.ProxyCounts{}, start)
	known := &record{retryAt: start.Add(time.Second)}
	wait, due := known.due(&desired, mesh.Split{}, start)
	require.False(t, due)
	require.Equal(t, time.Second, wait)
}
