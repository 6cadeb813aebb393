// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
)

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func runQuery(now time.Duration) analysis.Query {
	return analysis.Query{Namespace: "shop", CanaryHash: "new", StableHash: "old", Since: began, Now: began.Add(now)}
}

// stream is a series of a pod "hash/number" with samples given as seconds since the run's start and value.
func stream(metric, pod, labels string, samples ...float64) *model.SampleStream {
	var hash string
	var number int
	if _, err := fmt.Sscanf(pod, "%3s/%d", &hash, &number); err != nil {
		panic(err)
	}
	s := &model.SampleStream{Metric: model.Metric{
		model.MetricNameLabel: model.LabelValue(metric), labelPod: model.LabelValue(pod), labelDirection: inbound, labelHash: model.LabelValue(hash),
		labelNamespace: "shop", labelDestinationNamespace: "shop",
	}}
	switch labels {
	case classSuccess, classFailure:
		s.Metric[labelClass] = model.LabelValue(labels)
	case "lost", canceled:
		s.Metric[labelError] = model.LabelValue(labels)
		s.Metric[labelDirection], s.Metric[labelClass] = outbound, classFailure
		s.Metric[labelDestination], s.Metric[labelHash] = model.LabelValue(hash), "ccc"
	}
	for i := 0; i < len(samples); i += 2 {
		at := began.Add(time.Duration(samples[i] * float64(time.Second)))
		s.Values = append(s.Values, model.SamplePair{Timestamp: model.TimeFromUnixNano(at.UnixNano()), Value: model.SampleValue(samples[i+1])})
	}
	return s
}

func good(pod string, samples ...float64) *model.SampleStream {
	return stream(responses, pod, classSuccess, samples...)
}

func bad(pod string, samples ...float64) *model.SampleStream {
	return stream(responses, pod, classFailure, samples...)
}

// own makes what a caller counted be counted by the destination's own pod.
func own(s *model.SampleStream) *model.SampleStream {
	s.Metric[labelHash] = s.Metric[labelDestination]
	return s
}

// ends are rounds as "second: canary bad/all, stable bad/all".
func ends(rounds []analysis.Round) []string {
	texts := []string{}
	for _, r := range rounds {
		if r.Open {
			continue
		}
		texts = append(texts, fmt.Sprintf("%v: %d/%d, %d/%d", r.End.Sub(began).Seconds(),
			r.Canary.Errors, r.Canary.Requests, r.Stable.Errors, r.Stable.Requests))
	}
	return texts
}

func TestFold(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	cases := []struct {
		name   string
		now    time.Duration
		answer model.Matrix
		want   []string
	}{
		{name: "empty", want: []string{}},
		{
			name: "a round ends when both pods were seen",
			answer: model.Matrix{
				good("old/1", -5, 100, 5, 110, 15, 130, 25, 140),
				good("new/1", 10, 3, 20, 5),
			},
			want: []string{"10: 0/3, 0/10", "20: 0/2, 0/20"},
		},
		{
			name: "one pod late", now: 27 * time.Second,
			answer: model.Matrix{
				good("old/1", -5, 100, 5, 110, 15, 120, 25, 130), good("old/2", -4, 0, 6, 1, 26, 2),
				good("new/1", 7, 1, 17, 2, 27, 3),
			},
			want: []string{"7: 0/1, 0/11", "26: 0/1, 0/21"},
		},
		{
			name:   "only stable is known",
			answer: model.Matrix{good("old/1", -5, 100, 5, 110, 15, 130)},
			want:   []string{},
		},
		{
			name: "the canary's pod restarts twice",
			answer: model.Matrix{
				good("old/1", -1, 0, 1, 1, 2, 2, 3, 3, 4, 4),
				good("new/1", 1, 10, 2, 4, 3, 6, 4, 1),
			},
			want: []string{"1: 0/10, 0/1", "2: 0/4, 0/1", "3: 0/2, 0/1", "4: 0/1, 0/1"},
		},
		{
			name: "a first failure counts from 0, an old count of stable does not",
			answer: model.Matrix{
				good("old/1", -1, 50, 1, 60, 2, 70), bad("old/1", 2, 3),
				good("new/1", 1, 5, 2, 6), bad("new/1", 2, 1),
				good("old/2", 1, 1_000, 2, 1_001),
			},
			want: []string{"1: 0/5, 0/10", "2: 1/2, 3/14"},
		},
		{
			name: "callers' losses",
			answer: model.Matrix{
				good("old/1", -2, 50, -1, 50, 1, 60, 2, 70, 3, 80), good("new/1", 1, 5, 2, 6, 3, 7),
				stream(responses, "new/1", "lost", 2, 4, 3, 5), stream(responses, "old/1", "lost", -2, 7, 2, 9, 3, 9),
			},
			want: []string{"1: 0/5, 0/10", "2: 4/5, 2/12", "3: 1/2, 0/10"},
		},
		{
			name: "clients that leave are counted once, where they left",
			answer: model.Matrix{
				good("old/1", -2, 50, 1, 60, 2, 60), good("new/1", 1, 5, 2, 6),
				stream(responses, "new/1", canceled, 2, 4), own(stream(responses, "new/1", canceled, 2, 3)),
			},
			want: []string{"1: 0/5, 0/10", "2: 3/4, 0/0"},
		},
		{
			name: "a canary that answers nothing at all",
			answer: model.Matrix{
				good("old/1", -2, 50, 1, 60, 2, 60), stream(presence, "new/1", "", 1, 1, 2, 1), own(stream(responses, "new/1", "lost", 2, 4)),
			},
			want: []string{"1: 0/0, 0/10", "2: 4/4, 0/0"},
		},
		{
			name: "losses of unknown age after a gap",
			answer: model.Matrix{
				good("old/1", 10, 60, 11, 70), good("new/1", 10, 5, 11, 6),
				stream(responses, "old/1", "lost", 10, 1_000, 11, 1_001), stream(responses, "new/1", "lost", 10, 40),
			},
			want: []string{"10: 0/5, 0/0", "11: 0/1, 1/11"},
		},
		{
			name: "samples that are no counts",
			answer: model.Matrix{
				good("old/1", -1, 50, 1, nan, 2, 60), good("new/1", 1, 5, 2, inf, 3, 7), bad("new/1", 1, -3, 2, 1e300),
			},
			want: []string{"2: 0/5, 0/10"},
		},
		{
			name: "a pod that is gone is waited for three scrapes",
			answer: model.Matrix{
				good("old/1", -1, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6), good("old/2", -1, 0, 1, 1),
				good("new/1", 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6),
			},
			want: []string{"1: 0/1, 0/2", "5: 0/4, 0/4", "6: 0/1, 0/1"},
		},
		{
			name: "a canary that has gone silent ends the rounds",
			answer: model.Matrix{
				good("old/1", -1, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), good("new/1", 1, 1, 2, 2),
			},
			want: []string{"1: 0/1, 0/1", "2: 0/1, 0/1"},
		},
		{
			name: "other revisions, classes and directions",
			answer: model.Matrix{
				good("old/1", -1, 0, 1, 1), good("new/1", 1, 1), good("xxx/1", 1, 50), stream(responses, "new/1", "odd", 1, 90),
			},
			want: []string{"1: 0/1, 0/1"},
		},
		{
			name: "of a long run the last hour", now: 2 * time.Hour,
			answer: model.Matrix{
				good("old/1", 3595, 1_000, 3605, 1_010, 3615, 1_020), good("new/1", 3590, 500, 3606, 503, 3616, 504),
				// Made within that hour or not, nobody knows.
				good("new/2", 3607, 9_000, 3617, 9_001),
			},
			want: []string{"3606: 0/3, 0/10", "3616: 0/1, 0/10"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			now := c.now
			if now == 0 {
				now = time.Minute
			}
			p, err := newPlan(runQuery(now))
			require.NoError(t, err)
			rounds, err := fold(p, c.answer)
			require.NoError(t, err)
			require.Equal(t, c.want, ends(rounds))
		})
	}
}

func TestFoldLatency(t *testing.T) {
	query := runQuery(time.Minute)
	query.LatencyLimit = 450 * time.Millisecond
	p, err := newPlan(query)
	require.NoError(t, err)
	require.Equal(t, 400*time.Millisecond, p.edge)
	answer := model.Matrix{
		good("old/1", -1, 100, 1, 110), stream(latencyCount, "old/1", "", -1, 100, 1, 110), stream(latencyBuckets, "old/1", "", -1, 90, 1, 99),
		good("new/1", 1, 10), stream(latencyCount, "new/1", "", 1, 10), stream(latencyBuckets, "new/1", "", 1, 4),
	}
	rounds, err := fold(p, answer)
	require.NoError(t, err)
	require.Equal(t, []analysis.Round{{
		End:        began.Add(time.Second).Local(),
		Canary:     analysis.Counts{Requests: 10, Slow: 6},
		CanaryCold: analysis.Counts{Requests: 10, Slow: 6},
		Stable:     analysis.Counts{Requests: 10, Slow: 1},
		ColdKnown:  true,
		StablePods: []analysis.Counts{{Requests: 10, Slow: 1}},
		CanaryPods: []analysis.Counts{{Requests: 10, Slow: 6}},
	}}, rounds)

	_, err = fold(p, answer[:5])
	require.EqualError(t, err, `the pods with hash "new" export no response_latency_ms_bucket with le="400"`)
}

// Before the run only stable is looked at, by pod; in it a pod is cold for a WarmUp after its first
// request, and what came after the last whole round is told of the canary.
func TestFoldBeforeAndColdAndOpen(t *testing.T) {
	query := runQuery(2 * time.Minute)
	query.Before = time.Minute
	p, err := newPlan(query)
	require.NoError(t, err)
	rounds, err := fold(p, model.Matrix{
		good("old/1", -50, 100, -35, 110, -20, 120, -5, 130, 10, 140, 25, 150, 40, 160, 55, 170), bad("old/1", -50, 0, -35, 1, -20, 1),
		good("old/2", -48, 300, -33, 330, -18, 360, -3, 390, 12, 420, 27, 450, 42, 480, 57, 510),
		good("new/1", 14, 4, 29, 8, 44, 12, 59, 16, 70, 19),
	})
	require.NoError(t, err)
	require.Equal(t, []string{
		"-50: 0/0, 0/0", "-35: 0/0, 1/11", "-20: 0/0, 0/40", "-5: 0/0, 0/40",
		"14: 0/4, 0/40", "29: 0/4, 0/40", "44: 0/4, 0/40", "59: 0/4, 0/40",
	}, ends(rounds))
	require.Equal(t, []analysis.Counts{{Requests: 11, Errors: 1}}, rounds[1].StablePods)
	require.Equal(t, []analysis.Counts{{Requests: 10}, {Requests: 30}}, rounds[2].StablePods)
	var cold []uint64
	for _, round := range rounds {
		require.True(t, round.ColdKnown)
		require.Zero(t, round.StableCold)
		cold = append(cold, round.CanaryCold.Requests)
	}
	require.Equal(t, []uint64{0, 0, 0, 0, 4, 4, 0, 0, 0}, cold)
	open := rounds[len(rounds)-1]
	require.True(t, open.Open)
	require.Equal(t, analysis.Counts{Requests: 3}, open.Canary)
}

// Other edges are compared only where both revisions have them.
func TestFoldEdges(t *testing.T) {
	query := runQuery(time.Minute)
	query.LatencyLimit = 500 * time.Millisecond
	p, err := newPlan(query)
	require.NoError(t, err)
	p.edges = [2]time.Duration{100 * time.Millisecond, 200 * time.Millisecond}
	bucket := func(pod, edge string, samples ...float64) *model.SampleStream {
		s := stream(latencyBuckets, pod, "", samples...)
		s.Metric[labelEdge] = model.LabelValue(edge)
		return s
	}
	answer := model.Matrix{
		good("old/1", -1, 0, 1, 100), stream(latencyCount, "old/1", "", -1, 0, 1, 100),
		bucket("old/1", "100.0", -1, 0, 1, 90), bucket("old/1", "200", -1, 0, 1, 98), bucket("old/1", "500", -1, 0, 1, 99),
		good("new/1", 1, 10), stream(latencyCount, "new/1", "", 1, 10), bucket("new/1", "100", 1, 4), bucket("new/1", "500.0", 1, 9),
		bucket("new/1", "odd", 1, 9), bucket("new/1", "300", 1, 9),
	}
	rounds, err := fold(p, answer)
	require.NoError(t, err)
	require.Len(t, rounds, 1)
	require.Equal(t, [2]time.Duration{100 * time.Millisecond}, rounds[0].Edges)
	require.Equal(t, analysis.Counts{Requests: 10, Slow: 1, Over: [2]uint64{6}}, rounds[0].Canary)
	require.Equal(t, analysis.Counts{Requests: 100, Slow: 1, Over: [2]uint64{10}}, rounds[0].Stable)
}

// What is known of a run at a time stays known as more is seen: the rounds of a later answer begin
// with those of an earlier one.
func TestFoldReplays(t *testing.T) {
	var oldSamples, newSamples []float64
	for i := range 60 {
		oldSamples = append(oldSamples, float64(i)-1, float64(20*i))
		newSamples = append(newSamples, float64(i)+0.4, float64(i%17*3))
	}
	var before []analysis.Round
	for n := 10; n <= len(oldSamples); n += 2 {
		p, err := newPlan(runQuery(time.Hour))
		require.NoError(t, err)
		rounds, err := fold(p, model.Matrix{good("old/1", oldSamples[:n]...), good("new/1", newSamples[:n]...)})
		require.NoError(t, err)
		if last := len(rounds) - 1; last >= 0 && rounds[last].Open {
			rounds = rounds[:last]
		}
		require.GreaterOrEqual(t, len(rounds), len(before))
		require.Equal(t, before, append([]analysis.Round(nil), rounds[:len(before)]...))
		before = append([]analysis.Round(nil), rounds...)
	}
	require.Greater(t, len(before), 50)
}

func TestSelectors(t *testing.T) {
	query := runQuery(90 * time.Second)
	query.Namespace, query.CanaryHash, query.LatencyLimit = `a"b\c`, "n.w|", 500*time.Millisecond
	p, err := newPlan(query)
	require.NoError(t, err)
	require.Equal(t, []string{
		`{__name__=~"proxy_build_info|process_start_time_seconds|response_total|response_latency_ms_bucket|response_latency_ms_count",direction=~"|inbound",namespace=~"a\"b\\\\c",pod_template_hash=~"n\\.w\\||old",le=~"|500(\\.0+)?",route_name!~"probe|mirror"}[151s]`,
		`{__name__="response_total",direction="outbound",classification="failure",error!="",status_code="",dst_namespace=~"a\"b\\\\c",dst_pod_template_hash=~"n\\.w\\||old"}[151s]`,
	}, selectors([]plan{p}))
}

func TestPlanRefuses(t *testing.T) {
	cases := map[string]func(*analysis.Query){
		"namespace and the hashes":  func(q *analysis.Query) { q.Namespace = "" },
		"hashes of both":            func(q *analysis.Query) { q.CanaryHash = "" },
		"both revisions have":       func(q *analysis.Query) { q.CanaryHash = q.StableHash },
		"UTF-8":                     func(q *analysis.Query) { q.Namespace = "\xff" },
		"run's start":               func(q *analysis.Query) { q.Since = time.Time{} },
		"is not before now":         func(q *analysis.Query) { q.Since = q.Now.Add(time.Second) },
		"-1s is negative":           func(q *analysis.Query) { q.LatencyLimit = -time.Second },
		"below the lowest bucket":   func(q *analysis.Query) { q.LatencyLimit = time.Microsecond },
		"limit 999µs is below the ": func(q *analysis.Query) { q.LatencyLimit = 999 * time.Microsecond },
	}
	for want, spoil := range cases {
		query := runQuery(time.Minute)
		spoil(&query)
		_, err := newPlan(query)
		require.ErrorContains(t, err, want)
	}
}

// Whatever is answered, rounds follow each other and no count contradicts another.
func FuzzFold(f *testing.F) {
	f.Add([]byte("\x00\x01\x05\x02\x81\x03\x07\x04"), true)
	f.Add([]byte("\x10\x01\x05\x11\x02\x07\x12\x03\x09\x13\x01\x01\x04\x04\x04"), false)
	f.Fuzz(func(t *testing.T, bytes []byte, latency bool) {
		query := runQuery(5 * time.Minute)
		if latency {
			query.LatencyLimit = time.Second
		}
		p, err := newPlan(query)
		require.NoError(t, err)
		pods := []string{"old/1", "old/2", "new/1", "new/2", "xxx/1"}
		shapes := [][2]string{
			{responses, classSuccess}, {responses, classFailure}, {responses, "lost"}, {responses, ""}, {presence, ""}, {responses, canceled}, {latencyCount, ""}, {latencyBuckets, ""},
		}
		var answer model.Matrix
		for len(bytes) > 2 {
			pod, shape := pods[int(bytes[0])%len(pods)], shapes[int(bytes[0]/8)%len(shapes)]
			count := min(int(bytes[1])%16, len(bytes)/2-1)
			var samples []float64
			for i := range count {
				value := float64(int8(bytes[3+2*i]))
				switch value {
				case 77:
					value = math.NaN()
				case 78:
					value = math.Inf(1)
				case 79:
					value = 1e17
				}
				samples = append(samples, float64(int8(bytes[2+2*i]))/2, value)
			}
			answer = append(answer, stream(shape[0], pod, shape[1], samples...))
			bytes = bytes[2+2*count:]
		}
		rounds, err := fold(p, answer)
		if err != nil {
			require.Empty(t, rounds)
			return
		}
		end := p.from
		for _, round := range rounds {
			require.True(t, round.End.After(end) && !round.End.After(p.Now))
			end = round.End
			for _, counts := range []analysis.Counts{round.Canary, round.Stable} {
				require.LessOrEqual(t, counts.Errors, counts.Requests)
				require.LessOrEqual(t, counts.Slow, counts.Requests)
				require.Less(t, counts.Requests, uint64(1)<<50)
			}
		}
	})
}
