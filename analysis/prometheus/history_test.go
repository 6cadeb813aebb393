// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
)

func recordingQuery() RecordingQuery {
	return RecordingQuery{Namespace: "shop", Workload: "checkout", From: began, To: began.Add(time.Minute), LatencyLimit: 500 * time.Millisecond}
}

// of a Deployment.
func of(workload string, s *model.SampleStream) *model.SampleStream {
	s.Metric[labelWorkload] = model.LabelValue(workload)
	return s
}

func TestRecording(t *testing.T) {
	p, err := newRecordingPlan(recordingQuery())
	require.NoError(t, err)
	p.StableHash, p.CanaryHash = "old", "old"
	var answer model.Matrix
	for i := range 3 {
		pod := fmt.Sprintf("old/%d", i)
		answer = append(answer,
			of("checkout", good(pod, -20, 100, -5, 110, 10, 120, 25, 140)),
			of("checkout", stream(latencyCount, pod, "", -20, 100, -5, 110, 10, 120, 25, 140)),
			of("checkout", stream(latencyBuckets, pod, "", -20, 100, -5, 110, 10, 119, 25, 139)))
	}
	answer = append(answer,
		of("checkout", bad("old/1", 25, 3)),                                // born in the window, by a pod that is older
		of("checkout", good("old/7", 10, 5, 25, 9)),                        // a pod that is made in the window
		of("checkout", good("old/8", -200, 5, -100, 5)),                    // one that is gone before it
		of("web", good("old/9", -20, 0, 10, 1000)),                         // another workload with an equal template
		of("checkout", stream(responses, "old/1", "lost", -20, 0, 10, 50)), // counted by callers
	)
	recording := newRecording(p, answer)
	require.Equal(t, "old", recording.Revision())
	pods := recording.Pods()
	require.Len(t, pods, 3)

	rounds, err := recording.Rounds(pods[1:2])
	require.NoError(t, err)
	require.Equal(t, []string{"10: 0/10, 0/20", "25: 3/23, 0/44"}, ends(rounds))
	require.EqualValues(t, 1, rounds[0].Canary.Slow)
	require.Len(t, rounds[0].StablePods, 2)

	rounds, err = recording.Rounds(nil)
	require.NoError(t, err)
	require.Equal(t, []string{"10: 0/0, 0/30", "25: 0/0, 3/67"}, ends(rounds))
	require.Equal(t, pods, recording.Pods(), "rounds change nothing")
}

func TestRecordingRehearses(t *testing.T) {
	query := recordingQuery()
	query.Before = time.Minute
	p, err := newRecordingPlan(query)
	require.NoError(t, err)
	p.StableHash, p.CanaryHash = "old", "old"
	p.edge = 0
	recording := newRecording(p, model.Matrix{
		of("checkout", good("old/1", -40, 100, -20, 110, -1, 115, 15, 120)),
		of("checkout", good("old/2", -40, 200, -20, 220, -1, 230, 15, 240)),
	})
	rounds, err := recording.Rounds(recording.Pods()[:1])
	require.NoError(t, err)
	require.Equal(t, []string{"-40: 0/0, 0/0", "-20: 0/0, 0/30", "-1: 0/0, 0/15", "15: 0/5, 0/10"}, ends(rounds))
	require.Len(t, rounds[1].StablePods, 2, "before a release all pods are stable's")
}

func TestRecordingWithoutLatencies(t *testing.T) {
	p, err := newRecordingPlan(recordingQuery())
	require.NoError(t, err)
	p.StableHash, p.CanaryHash = "old", "old"
	_, err = newRecording(p, model.Matrix{of("checkout", good("old/1", -5, 1, 10, 2))}).Rounds(nil)
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorContains(t, err, `export no response_latency_ms_bucket with le="500"`)
}

func TestLargestRevision(t *testing.T) {
	sample := func(hash string, pods float64) *model.Sample {
		return &model.Sample{Metric: model.Metric{labelHash: model.LabelValue(hash)}, Value: model.SampleValue(pods)}
	}
	require.Equal(t, "b", largest(model.Vector{sample("a", 2), sample("b", 3), sample("c", 1)}))
	require.Equal(t, "a", largest(model.Vector{sample("b", 2), sample("a", 2)}))
	require.Empty(t, largest(model.Vector{}))
	require.Empty(t, largest(model.Matrix{}))
}

func TestRecordRefuses(t *testing.T) {
	source, err := New(Options{Address: "http://127.0.0.1:1"})
	require.NoError(t, err)
	t.Cleanup(source.Close)
	for want, change := range map[string]func(*RecordingQuery){
		"namespace and workload are needed": func(q *RecordingQuery) { q.Workload = "" },
		"is not longer than nothing":        func(q *RecordingQuery) { q.To = q.From },
		"at most 24h0m0s":                   func(q *RecordingQuery) { q.To = q.From.Add(25 * time.Hour) },
		"not from 0 to 1h0m0s":              func(q *RecordingQuery) { q.Before = 2 * time.Hour },
		"below the lowest bucket edge":      func(q *RecordingQuery) { q.LatencyLimit = time.Microsecond },
		"prometheus unavailable":            func(*RecordingQuery) {},
	} {
		query := recordingQuery()
		change(&query)
		_, err := source.Record(t.Context(), query)
		require.ErrorContains(t, err, want)
	}
}

// What a census asks for stays one value, whatever the names hold.
func TestCensusQuotes(t *testing.T) {
	query := recordingQuery()
	query.Workload = `a"} or vector(1) #`
	p, err := newRecordingPlan(query)
	require.NoError(t, err)
	require.Equal(t, `count by (pod_template_hash) (last_over_time(proxy_build_info{namespace="shop",deployment="a\"} or vector(1) #",pod_template_hash!=""}[60s]))`, p.census())
}
