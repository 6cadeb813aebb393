// SPDX-License-Identifier: Apache-2.0

package backtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/simulation"
)

const scrape = 15 * time.Second

func midnight() time.Time { return time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC) }

// service is a workload whose pods answer by rates that are known.
type service struct {
	pods     int
	requests float64 // per second
	// errors of a pod at a time, as a share.
	errors func(pod int, at time.Time) float64
}

func steady(share float64) func(int, time.Time) float64 {
	return func(int, time.Time) float64 { return share }
}

type recorded struct {
	names []string
	start time.Time
	ends  []time.Time
	pods  [][]analysis.Counts // by round
}

// record ten minutes before the window as well.
func (s service) record(_ context.Context, from, to time.Time) (Recording, error) {
	r := &recorded{start: from}
	random := simulation.NewSampler(uint64(from.Unix()), 99)
	for i := range s.pods {
		r.names = append(r.names, fmt.Sprintf("pod-%d", i))
	}
	for end := from.Add(-10 * time.Minute); !end.After(to); end = end.Add(scrape) {
		round := make([]analysis.Counts, s.pods)
		for i := range round {
			n := random.Poisson(s.requests / float64(s.pods) * scrape.Seconds())
			over := random.Binomial(n, 0.1)
			slower := random.Binomial(over, 0.2)
			round[i] = analysis.Counts{
				Requests: uint64(n), Errors: uint64(random.Binomial(n, s.errors(i, end))),
				Over: [2]uint64{uint64(over), uint64(slower)}, Slow: uint64(random.Binomial(slower, 0.1)),
			}
		}
		r.ends, r.pods = append(r.ends, end), append(r.pods, round)
	}
	return r, nil
}

func (r *recorded) Revision() string { return "7d4f" }
func (r *recorded) Pods() []string   { return r.names }

func (r *recorded) Rounds(canaries []string) ([]analysis.Round, error) {
	var rounds []analysis.Round
	for i, end := range r.ends {
		round := analysis.Round{End: end, ColdKnown: true, Edges: [2]time.Duration{100 * time.Millisecond, 200 * time.Millisecond}}
		for j, counts := range r.pods[i] {
			if end.After(r.start) && slices.Contains(canaries, r.names[j]) {
				round.Canary = plus(round.Canary, counts)
				continue
			}
			round.Stable = plus(round.Stable, counts)
			round.StablePods = append(round.StablePods, counts)
		}
		rounds = append(rounds, round)
	}
	return rounds, nil
}

// sixHours of releases.
func sixHours() Options {
	plan := simulation.Plan{Config: analysis.Defaults(), OnInconclusive: analysis.PolicyHold, Histogram: []float64{0.1, 0.2, 0.5}}
	plan.Steps = []simulation.Step{{Weight: 0.05, Hold: time.Minute}, {Weight: 0.5, Hold: time.Minute}, {Weight: 1, Hold: time.Minute}}
	plan.Config.Steps = len(plan.Steps)
	return Options{
		Plan: plan, From: midnight(), To: midnight().Add(6 * time.Hour), End: midnight().Add(8 * time.Hour), Every: time.Hour,
		Length: 35 * time.Minute, Split: SplitPods, Releases: 10, Seed: 1, Interval: 5 * time.Second,
	}
}

func TestGoodHistoryPasses(t *testing.T) {
	for _, split := range []Split{SplitPods, SplitRequests} {
		options := sixHours()
		options.Split = split
		options.Defects = []Defect{
			{Name: "errors", Errors: 0.05}, {Name: "late", Errors: 0.2, OnsetWeight: 1}, {Name: "slow", Slow: 0.05},
			{Name: "after", Errors: 0.5, Onset: 100}, {Name: "none to speak of", Errors: 0.0001},
		}
		report, err := Run(t.Context(), options, service{pods: 4, requests: 100, errors: steady(0.001)}.record)
		require.NoError(t, err)
		require.Len(t, report.Hours, 6)
		require.Equal(t, 60, report.Releases)
		require.Zero(t, report.FalseAlarms.Value)
		require.InDelta(t, 39, report.FalseAlarms.High, 1, "of six hours, not of sixty releases")
		require.InDelta(t, 100, report.Promoted.Value, 0)
		require.InDelta(t, 240, report.Median.Value, 60)
		for _, hour := range report.Hours {
			require.Equal(t, split, hour.Split)
			require.InDelta(t, 100, hour.Requests, 5)
			require.InDelta(t, 0.1, hour.Errors, 0.05)
			require.InDelta(t, 0.2, hour.Slow, 0.05)
			require.Equal(t, [3]int{10, 10, 0}, [3]int{hour.Releases, hour.Promoted, hour.RolledBack})
			require.Empty(t, hour.Reason)
		}
		for _, d := range report.Defects[:4] {
			require.Zero(t, d.Missed.Value, d.Name)
			require.Zero(t, d.Undecided.Value, d.Name)
			require.Positive(t, d.Bad.Value, d.Name)
		}
		require.Less(t, report.Defects[0].Median.Value, 120.0)
		require.Greater(t, report.Defects[1].Median.Value, 120.0)
		require.Greater(t, report.Defects[3].Median.Value, 100.0)
		require.InDelta(t, 100, report.Defects[4].Missed.Value, 0)
	}
}

// A pod that is bad by itself makes a canary fail when it is one of the canary's.
func TestABadPodFails(t *testing.T) {
	bad := func(pod int, at time.Time) float64 {
		if pod == 2 && at.Hour() == 3 {
			return 0.2
		}
		return 0.001
	}
	report, err := Run(t.Context(), sixHours(), service{pods: 4, requests: 100, errors: bad}.record)
	require.NoError(t, err)
	for i, hour := range report.Hours {
		if i != 3 {
			require.Zero(t, hour.RolledBack)
			continue
		}
		require.Greater(t, hour.RolledBack, 2)
		require.Less(t, hour.RolledBack, 8)
		require.Contains(t, hour.Reason, "requests failed")
	}
	require.InDelta(t, 100*float64(report.Hours[3].RolledBack)/60, report.FalseAlarms.Value, 1e-9)
}

// An outage of all pods is nobody's fault: releases wait.
func TestASharedOutageFailsNobody(t *testing.T) {
	bad := func(_ int, at time.Time) float64 {
		if at.Hour() == 3 {
			return 0.3
		}
		return 0.001
	}
	report, err := Run(t.Context(), sixHours(), service{pods: 6, requests: 100, errors: bad}.record)
	require.NoError(t, err)
	hour := report.Hours[3]
	require.Equal(t, [2]int{0, 0}, [2]int{hour.RolledBack, hour.Promoted})
	require.Contains(t, hour.Reason, "both revisions break the objective")
	require.InDelta(t, 30, hour.Errors, 2)
	require.InDelta(t, 100.0/6, report.Undecided.Value, 1e-9)
}

func TestHoursWithoutData(t *testing.T) {
	options := sixHours()
	options.Releases = 2
	report, err := Run(t.Context(), options, service{errors: steady(0)}.record)
	require.NoError(t, err)
	require.Zero(t, report.Releases)
	require.True(t, math.IsNaN(report.FalseAlarms.Value))
	require.Equal(t, "the workload had no pods then", report.Hours[0].Reason)

	report, err = Run(t.Context(), options, service{pods: 1, requests: 100, errors: steady(0.001)}.record)
	require.NoError(t, err)
	require.Equal(t, SplitRequests, report.Hours[0].Split, "one pod cannot be halved")
	require.InDelta(t, 100, report.Promoted.Value, 0)

	report, err = Run(t.Context(), options, service{pods: 3, requests: 0, errors: steady(0)}.record)
	require.NoError(t, err)
	require.InDelta(t, 100, report.Undecided.Value, 0)
	require.Contains(t, report.Hours[0].Reason, "0 requests in the step")
}

func TestRunFailsWithItsSource(t *testing.T) {
	broken := errors.New("gone")
	_, err := Run(t.Context(), sixHours(), func(context.Context, time.Time, time.Time) (Recording, error) { return nil, broken })
	require.ErrorIs(t, err, broken)
}

func TestSeeds(t *testing.T) {
	run := func(seed uint32) string {
		options := sixHours()
		options.Seed, options.To = seed, midnight().Add(2*time.Hour)
		options.Defects = []Defect{{Name: "errors", Errors: 0.03}}
		report, err := Run(t.Context(), options, service{pods: 5, requests: 40, errors: steady(0.002)}.record)
		require.NoError(t, err)
		return fmt.Sprint(*report)
	}
	require.Equal(t, run(1), run(1))
	require.NotEqual(t, run(1), run(2))
}

// The canary gets its weight's share of requests, whatever its pods had.
func TestWeights(t *testing.T) {
	for _, pods := range []int{2, 3, 5} {
		for _, weight := range []float64{0.01, 0.25, 0.5, 0.9, 1} {
			recording, err := service{pods: pods, requests: 400, errors: steady(0.01)}.record(t.Context(), midnight(), midnight().Add(time.Hour))
			require.NoError(t, err)
			for _, byPod := range []bool{true, false} {
				var canaries []string
				if byPod {
					canaries = recording.Pods()[:pods/2]
				}
				rounds, err := recording.Rounds(canaries)
				require.NoError(t, err)
				r := &release{rounds: rounds, start: midnight(), byPod: byPod, random: simulation.NewSampler(1, 1), natural: naturalShare(rounds)}
				r.shift(weight, midnight())
				var canary, stable analysis.Counts
				for i := range rounds {
					round := r.round(i)
					canary, stable = plus(canary, round.Canary), plus(stable, round.Stable)
					if !round.End.After(midnight()) {
						require.Equal(t, rounds[i], round)
						canary, stable = analysis.Counts{}, analysis.Counts{}
					}
				}
				share := float64(canary.Requests) / float64(canary.Requests+stable.Requests)
				require.InDelta(t, weight, share, 0.005, "%d pods", pods)
				require.InDelta(t, 0.01, float64(canary.Errors)/float64(canary.Requests), 0.005)
				require.InDelta(t, 0.1, float64(canary.Over[0])/float64(canary.Requests), 0.015)
			}
		}
	}
}

func TestMeanWeight(t *testing.T) {
	at := func(seconds int) time.Time { return midnight().Add(time.Duration(seconds) * time.Second) }
	r := &release{}
	r.shift(0.1, at(0))
	r.shift(0.5, at(60))
	require.InDelta(t, 0.1, r.mean(at(0), at(15)), 1e-12)
	require.InDelta(t, 0.5, r.mean(at(60), at(75)), 1e-12)
	require.InDelta(t, 0.3, r.mean(at(50), at(70)), 1e-12)
}
