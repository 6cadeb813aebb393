// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// numbers is a recording with a number.
type numbers struct {
	recording
	value   float64
	err     error
	queries []analysis.NumberQuery
}

func (n *numbers) Number(_ context.Context, query analysis.NumberQuery) (analysis.Value, error) {
	n.queries = append(n.queries, query)
	return analysis.Value{At: query.Now, Number: n.value}, n.err
}

func whole(n int) *intstr.IntOrString {
	value := intstr.FromInt32(int32(n))
	return &value
}

func queueBelow(limit int) v1alpha1.GateMetric {
	return v1alpha1.GateMetric{Name: "queue", Number: &v1alpha1.MetricNumber{
		MetricSelector: v1alpha1.MetricSelector{Metric: "queue_length"},
		MetricRange:    v1alpha1.MetricRange{Max: whole(limit), Failures: 2, Of: 3},
	}}
}

func TestMetricsOfASpec(t *testing.T) {
	objective := intstr.FromString("99.5")
	metrics := []v1alpha1.GateMetric{queueBelow(7), {Name: "orders", Counters: &v1alpha1.MetricCounters{
		Total: v1alpha1.MetricSelector{Metric: "orders_total"}, Objective: objective,
		Good: v1alpha1.MetricSelector{Metric: "orders_total", Labels: map[string]string{"status": "ok"}},
	}}}
	config, err := GateOf(v1alpha1.CanarySpec{Gate: v1alpha1.Gate{Metrics: metrics}})
	require.NoError(t, err)
	seven := 7.0
	require.Equal(t, []analysis.Custom{{Name: "orders", Objective: 99.5}}, config.Custom)
	require.Equal(t, []analysis.Range{{Name: "queue", Max: &seven, Failures: 2, Window: 3}}, config.Ranges)
	require.Equal(t, []analysis.CustomQuery{{
		Total: analysis.Selector{Metric: "orders_total"}, Good: analysis.Selector{Metric: "orders_total", Labels: map[string]string{"status": "ok"}},
	}}, customQueries(metrics))

	many := intstr.FromString("many")
	metrics[0].Number.Max = &many
	_, err = GateOf(v1alpha1.CanarySpec{Gate: v1alpha1.Gate{Metrics: metrics}})
	require.EqualError(t, err, `spec.gate.metrics[0].number.max: "many" is no number`)
	metrics[0].Number = nil
	_, err = GateOf(v1alpha1.CanarySpec{Gate: v1alpha1.Gate{Metrics: metrics}})
	require.EqualError(t, err, "spec.gate.metrics[0]: write one of counters, number and query")
}

// A number is looked at every 15 s, however often the gate is; out of its range often enough it rolls
// back, and without a number nothing happens.
func TestNumbersAreSampled(t *testing.T) {
	j := newJourney(1)
	j.canary.Spec.Gate.Metrics = []v1alpha1.GateMetric{queueBelow(7)}
	j.run.Spec.Candidate.PodTemplateHash, j.run.Spec.Stable.PodTemplateHash = "new", "old"
	j.move(0, rand.New(rand.NewPCG(1, 1)))
	source := &numbers{recording: recording{rounds: j.rounds}, value: math.NaN()}
	g := newGateway(source)
	look := func(at time.Duration) analysis.Judgement {
		looked, _, _ := j.look(t, g, j.began.Add(at))
		return looked.Judgement
	}
	require.NotEqual(t, analysis.VerdictFail, look(10*time.Second).Verdict)
	require.Equal(t, []string{"new"}, source.queries[0].Hashes)
	require.Equal(t, "avg", source.queries[0].Aggregate)
	source.value = 9
	require.NotEqual(t, analysis.VerdictFail, look(20*time.Second).Verdict)
	asked := len(source.queries)
	require.NotEqual(t, analysis.VerdictFail, look(34*time.Second).Verdict)
	require.Len(t, source.queries, asked, "14 s later it is not asked again")
	failed := look(35 * time.Second)
	require.Equal(t, analysis.CauseRange, failed.Cause)
	require.Equal(t, analysis.VerdictFail, failed.Verdict, failed.Reason)

	source.err = errors.New("connection refused")
	s := &scene{canary: j.canary.DeepCopy()}
	s.Runs = []v1alpha1.CanaryRun{*j.run.DeepCopy()}
	require.Equal(t, "spec.gate.metrics[0].number: connection refused", newGateway(source).look(t.Context(), s, j.began.Add(50*time.Second)).Unavailable)
	s = &scene{canary: j.canary.DeepCopy()}
	s.Runs = []v1alpha1.CanaryRun{*j.run.DeepCopy()}
	require.Contains(t, newGateway(&recording{}).look(t.Context(), s, j.began.Add(50*time.Second)).Unavailable, "reads no numbers")
}

// A number that cannot be read holds the run, and keeps no canary up that fails its requests.
func TestUnreadNumbersHideNoFailure(t *testing.T) {
	for seed := range uint64(5) {
		j := newJourney(seed)
		j.canary.Spec.Gate.Metrics = []v1alpha1.GateMetric{queueBelow(7)}
		j.move(0, rand.New(rand.NewPCG(seed, 1)))
		source := &numbers{recording: recording{rounds: newReports(j.began, 0.5, seed).rounds}, err: errors.New("more than one number came")}
		g := newGateway(source)
		require.Equal(t, "spec.gate.metrics[0].number: more than one number came", j.glance(t, g, time.Second).Unavailable)
		require.Equal(t, analysis.VerdictFail, j.glance(t, g, 30*time.Second).Judgement.Verdict)
	}
}

// halfRead is a recording of which some numbers, or the counters of the Canary's own, cannot be read.
type halfRead struct {
	recording
	unread map[string]error
	values map[string]float64
}

func (h *halfRead) Rounds(ctx context.Context, query analysis.Query) ([]analysis.Round, error) {
	rounds, _ := h.recording.Rounds(ctx, query)
	return rounds, h.unread["counters"]
}

func (h *halfRead) Number(_ context.Context, query analysis.NumberQuery) (analysis.Value, error) {
	return analysis.Value{At: query.Now, Number: h.values[query.Name]}, h.unread[query.Name]
}

// What cannot be read is told of first to last, and what can be read still fails the canary.
func TestUnreadNumbersHideNoOther(t *testing.T) {
	j := newJourney(1)
	j.canary.Spec.Gate.Metrics = []v1alpha1.GateMetric{
		{Name: "lag", Query: &v1alpha1.MetricQuery{PromQL: "lag", MetricRange: v1alpha1.MetricRange{Max: whole(1)}}}, queueBelow(7),
	}
	j.move(0, rand.New(rand.NewPCG(1, 1)))
	source := &halfRead{
		recording: recording{rounds: newReports(j.began, 0, 1).rounds},
		unread:    map[string]error{"lag": errors.New("more than one number came")}, values: map[string]float64{"queue": 9},
	}
	g := newGateway(source)
	require.Equal(t, "spec.gate.metrics[0].query: more than one number came", j.glance(t, g, 10*time.Second).Unavailable)
	failed := j.glance(t, g, 30*time.Second)
	require.Empty(t, failed.Unavailable)
	require.Equal(t, analysis.CauseRange, failed.Judgement.Cause)
	require.Contains(t, failed.Judgement.Reason, "queue was 9, not at most 7")

	source.unread["queue"] = errors.New("timed out")
	require.Equal(t, "spec.gate.metrics[0].query: more than one number came", j.glance(t, newGateway(source), 10*time.Second).Unavailable)
}

// Counters that cannot be read hold the run and keep no canary up that fails its requests. What they say
// counts once they can be read.
func TestUnreadCountersHideNoFailure(t *testing.T) {
	objective := intstr.FromInt32(99)
	for _, bad := range []float64{0, 0.5} {
		j := newJourney(1)
		j.canary.Spec.Gate.Metrics = []v1alpha1.GateMetric{{Name: "orders", Counters: &v1alpha1.MetricCounters{Objective: objective}}}
		j.move(0, rand.New(rand.NewPCG(1, 1)))
		source := &halfRead{recording: recording{rounds: newReports(j.began, bad, 1).rounds}, unread: map[string]error{"counters": errors.New("422")}}
		for i := range source.rounds {
			source.rounds[i].CanaryCustom, source.rounds[i].StableCustom = []analysis.Pair{{}}, []analysis.Pair{{}}
		}
		g := newGateway(source)
		require.Equal(t, "422", j.glance(t, g, time.Second).Unavailable)
		look := j.glance(t, g, 40*time.Second)
		if bad > 0 {
			require.Equal(t, analysis.VerdictFail, look.Judgement.Verdict)
			require.Equal(t, analysis.CauseWorse, look.Judgement.Cause)
			continue
		}
		require.Equal(t, "422", look.Unavailable)
		delete(source.unread, "counters")
		for i := range source.rounds { // They were there all the time.
			source.rounds[i].CanaryCustom, source.rounds[i].StableCustom = []analysis.Pair{{Total: 50}}, []analysis.Pair{{Total: 200, Good: 200}}
		}
		failed := j.glance(t, g, 41*time.Second).Judgement
		require.Equal(t, analysis.VerdictFail, failed.Verdict, failed.Reason)
		require.Contains(t, failed.Reason, "orders")
	}
}

// That nothing was found out in time is no proof while something cannot be read.
func TestProven(t *testing.T) {
	for _, c := range []struct {
		verdict analysis.Verdict
		cause   analysis.Cause
		want    bool
	}{
		{analysis.VerdictFail, analysis.CauseWorse, true},
		{analysis.VerdictFail, analysis.CauseRange, true},
		{analysis.VerdictFail, analysis.CauseInconclusive, false},
		{analysis.VerdictPass, analysis.CauseEvidence, false},
		{analysis.VerdictHold, analysis.CauseShared, false},
	} {
		require.Equal(t, c.want, proven(analysis.Judgement{Verdict: c.verdict, Cause: c.cause}), c.cause)
	}
}

func TestQueriesOfASpec(t *testing.T) {
	query := &v1alpha1.MetricQuery{PromQL: `max(lag{group="$workload"})`, MetricRange: v1alpha1.MetricRange{Min: whole(3)}}
	metrics := []v1alpha1.GateMetric{{Name: "lag", Query: query}, {Name: "well", Query: &v1alpha1.MetricQuery{PromQL: "up"}}}
	config, err := GateOf(v1alpha1.CanarySpec{Gate: v1alpha1.Gate{Metrics: metrics}})
	require.NoError(t, err)
	three, one := 3.0, 1.0
	require.Equal(t, []analysis.Range{{Name: "lag", Min: &three, Failures: 2, Window: 3}, {Name: "well", Min: &one, Max: &one, Failures: 2, Window: 3}}, config.Ranges)
	asked := numberQuery(metrics[0], analysis.Query{Namespace: "shop", Workload: "web", CanaryHash: "new", StableHash: "old", Now: time.Unix(9, 0)})
	require.Equal(t, analysis.NumberQuery{
		Name: "lag", Namespace: "shop", Workload: "web", Hashes: []string{"new", "old"}, Expression: query.PromQL, Now: time.Unix(9, 0),
	}, asked)
	many := intstr.FromString("many")
	query.Min = &many
	_, err = GateOf(v1alpha1.CanarySpec{Gate: v1alpha1.Gate{Metrics: metrics}})
	require.EqualError(t, err, `spec.gate.metrics[0].query.min: "many" is no number`)
}

// Without a range a query answers yes or no, and nothing else is taken for either.
func TestBooleanQueries(t *testing.T) {
	j := newJourney(1)
	j.canary.Spec.Gate.Metrics = []v1alpha1.GateMetric{{Name: "well", Query: &v1alpha1.MetricQuery{PromQL: "up", MetricRange: v1alpha1.MetricRange{Failures: 1, Of: 1}}}}
	j.move(0, rand.New(rand.NewPCG(1, 1)))
	source := &numbers{recording: recording{rounds: newReports(j.began, 0, 1).rounds}, value: 1}
	g := newGateway(source)
	require.NotEqual(t, analysis.VerdictFail, j.glance(t, g, 10*time.Second).Judgement.Verdict)
	source.value = math.NaN()
	require.NotEqual(t, analysis.VerdictFail, j.glance(t, g, 30*time.Second).Judgement.Verdict)
	source.value = 37
	require.Equal(t, "spec.gate.metrics[0].query: well is 37, neither 0 nor 1: write min or max", j.glance(t, g, 50*time.Second).Unavailable)
	source.value = 0
	failed := j.glance(t, g, 70*time.Second).Judgement
	require.Equal(t, analysis.VerdictFail, failed.Verdict)
	require.Equal(t, "well was 0, not from 1 to 1, in 1 of the last 1 samples; 0 is allowed", failed.Reason)
}
