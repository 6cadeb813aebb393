// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
)

// fleet is some minutes of two revisions' pods that are scraped every 15 s at phases of their own: pods
// of the canary come later, fail now and then, restart, and are not scraped for a while.
func fleet(random *rand.Rand) model.Matrix {
	var answer model.Matrix
	for _, pod := range []struct {
		name string
		born float64
	}{{"old/1", -300}, {"old/2", -300}, {"old/3", 200}, {"new/1", 3}, {"new/2", 20}, {"new/3", 400}} {
		var all, failures []float64
		count, failed := 0.0, 0.0
		silent := pod.born + 30 + 600*random.Float64()
		for at := pod.born + 15*random.Float64(); at < 900; at += 15 {
			if count += float64(random.IntN(20)); random.IntN(3) == 0 {
				failed += float64(random.IntN(3))
			}
			if random.IntN(40) == 0 {
				count, failed = float64(1+random.IntN(5)), 0
			}
			if at > silent && at < silent+40 {
				continue
			}
			all = append(all, at, count)
			if failed > 0 || len(failures) > 0 {
				failures = append(failures, at, failed)
			}
		}
		answer = append(answer, good(pod.name, all...))
		if len(failures) > 0 {
			answer = append(answer, bad(pod.name, failures...))
		}
		answer = append(answer, stream(presence, pod.name, "", all...))
	}
	return answer
}

// windowOf is what Prometheus answers for a window.
func windowOf(answer model.Matrix, from, to time.Time) model.Matrix {
	var cut model.Matrix
	for _, stream := range answer {
		kept := &model.SampleStream{Metric: stream.Metric}
		for _, pair := range stream.Values {
			if at := pair.Timestamp.Time(); at.After(from) && !at.After(to) {
				kept.Values = append(kept.Values, pair)
			}
		}
		if len(kept.Values) > 0 {
			cut = append(cut, kept)
		}
	}
	return cut
}

func told(rounds []analysis.Round) []string {
	var texts []string
	for _, round := range rounds {
		round.End = round.End.UTC()
		texts = append(texts, fmt.Sprintf("%+v", round))
	}
	return texts
}

// Reading on after what is known gives the rounds that reading the whole run gives, from a window of
// some scrapes only.
func TestReadingOnIsReadingAll(t *testing.T) {
	for seed := range uint64(200) {
		answer := fleet(rand.New(rand.NewPCG(seed, 7)))
		query := runQuery(15 * time.Minute)
		whole, err := newPlan(query)
		require.NoError(t, err)
		want, err := fold(whole, answer)
		require.NoError(t, err)
		require.Greater(t, len(want), 30)

		var read []analysis.Round
		for now := 30 * time.Second; now <= 15*time.Minute; now += 7 * time.Second {
			query := runQuery(now)
			query.RoundLength = 15 * time.Second
			if n := len(read); n > 0 {
				query.After = read[n-1].End
			}
			p, err := newPlan(query)
			require.NoError(t, err)
			if !query.After.IsZero() {
				require.LessOrEqual(t, query.After.Sub(p.from), 70*time.Second)
			}
			rounds, err := fold(p, windowOf(answer, p.from.Add(-lead), p.Now))
			require.NoError(t, err)
			for _, round := range rounds {
				if !round.Open {
					read = append(read, round)
				}
			}
		}
		closed := want[:0:0]
		for _, round := range want {
			if !round.Open {
				closed = append(closed, round)
			}
		}
		require.Equal(t, told(closed)[:len(read)], told(read), "seed %d", seed)
		require.GreaterOrEqual(t, len(read), len(closed)-2)
	}
}

// A process that says when it began is believed: after lost data its counts are old, even where other
// pods were scraped before it was, and those of a new process are all new.
func TestReadingOnByProcessStart(t *testing.T) {
	query := runQuery(10 * time.Minute)
	query.After = began.Add(5 * time.Minute)
	p, err := newPlan(query)
	require.NoError(t, err)
	start := func(pod string, at float64, samples ...float64) *model.SampleStream {
		s := stream(processStart, pod, "")
		for _, sample := range samples {
			s.Values = append(s.Values, model.SamplePair{
				Timestamp: model.TimeFromUnixNano(began.Add(time.Duration(sample) * time.Second).UnixNano()),
				Value:     model.SampleValue(float64(began.Unix()) + at),
			})
		}
		return s
	}
	rounds, err := fold(p, model.Matrix{
		good("old/1", 400, 10_000, 415, 10_100, 430, 10_200, 445, 10_300),
		good("new/1", 431, 500, 446, 505), start("new/1", 3, 431, 446),
		good("new/2", 432, 7, 447, 9), start("new/2", 420, 432, 447),
	})
	require.NoError(t, err)
	require.Equal(t, []string{"431: 0/0, 0/200", "446: 0/12, 0/100"}, ends(rounds))

	query = runQuery(time.Minute)
	query.After = began.Add(20 * time.Second) // so early in a run that it is read from its start
	p, err = newPlan(query)
	require.NoError(t, err)
	rounds, err = fold(p, model.Matrix{
		good("old/1", 30, 10_000, 45, 10_100), good("new/1", 31, 500, 46, 505), start("new/1", 3, 31, 46),
	})
	require.NoError(t, err)
	require.Equal(t, []string{"31: 0/0, 0/0", "46: 0/5, 0/100"}, ends(rounds))
}

// After Prometheus has lost its data, what pods of the canary had counted before is not counted again.
func TestReadingOnAfterLostData(t *testing.T) {
	query := runQuery(10 * time.Minute)
	query.After = began.Add(5 * time.Minute)
	p, err := newPlan(query)
	require.NoError(t, err)
	rounds, err := fold(p, model.Matrix{
		good("old/1", 400, 10_000, 415, 10_100, 430, 10_200, 445, 10_300),
		good("new/1", 401, 500, 416, 505, 431, 510, 446, 515), good("new/2", 432, 3, 447, 7),
	})
	require.NoError(t, err)
	require.Equal(t, []string{"401: 0/0, 0/0", "416: 0/5, 0/100", "431: 0/5, 0/100", "446: 0/8, 0/100"}, ends(rounds))
}
