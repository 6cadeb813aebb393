// SPDX-License-Identifier: Apache-2.0

package simulation

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
)

// behind are bars that the gate is known to miss: passing a canary at 50 requests/s whose rate is the
// whole budget takes one scrape more, because a step's evidence begins with a round of its own.
func behind(bar Bar) bool {
	return bar.Scenario == "stable 1 % 50 req/s" && bar.Metric == MetricMedian
}

// TestLiveBars: what is live rolls no more good canaries back for a hiccup than scrapes do, finds small faults no
// later, and serves a fraction of the bad requests of a disaster.
func TestLiveBars(t *testing.T) {
	rows := map[string]Scenario{}
	for _, s := range append(GoodCanaries(), Regressions()...) {
		rows[s.Name] = s
	}
	blip, small, broken := rows["canary pod blip 10 s 50 req/s"], rows["stable 0.1 % 50 req/s, +5pp"], rows["stable 0.1 % 500 req/s, +50pp"]
	worse := blip.with(func(s *Scenario) { s.Name, s.Requests = "the same at 500 req/s", 500 })
	cells, err := Play(t.Context(), []Scenario{blip, worse, small, broken}, Live(), Runs{Count: 10})
	require.NoError(t, err)
	for _, cell := range cells {
		require.Zero(t, cell.Wrong.Value, "%s, %s", cell.Scenario.Name, cell.Rule)
		switch cell.Scenario.Name {
		case small.Name:
			require.LessOrEqual(t, cell.Median.Value, 90.0, cell.Rule)
			require.LessOrEqual(t, cell.Bad.Value, 15.0, cell.Rule)
		case broken.Name:
			require.LessOrEqual(t, cell.P95.Value, 5.0, cell.Rule)
			require.LessOrEqual(t, cell.Bad.Value, 40.0, cell.Rule)
		}
	}
}

// TestBars is the short form of make bench-verdict: the scenarios that are cheap to play, in few runs.
// A bar that is out of even the confidence interval's reach fails.
func TestBars(t *testing.T) {
	const runs = 40
	scenarios := slices.DeleteFunc(append(GoodCanaries(), Regressions()...), func(s Scenario) bool {
		return s.Requests < 50 && s.AddErrors < 0.5
	})
	rules := slices.DeleteFunc(Columns(), func(r Rule) bool { return r.Name != GateServer && r.Name != GateCaller })
	cells, err := Play(t.Context(), scenarios, rules, Runs{Count: runs})
	require.NoError(t, err)
	judged := 0
	for _, bar := range Bars() {
		for _, cell := range cells {
			if cell.Scenario.Name == bar.Scenario && cell.Rule == bar.Rule && !behind(bar) {
				judged++
				require.NotEqual(t, Missed, cell.metric(bar.Metric).Against(bar.Limit), "%s, %s of %s: %v", bar.Scenario, bar.Metric, bar.Rule, cell)
			}
		}
	}
	require.Greater(t, judged, 30)
}

// Each rule does what its tool is known for.
func TestPeers(t *testing.T) {
	plain := good("plain", 50, 0.001, 0, 0)
	broken := bad("broken", 50, 0.001, Expected{}).with(func(s *Scenario) { s.AddErrors = 0.5 })
	idle := good("idle", 0, 0.001, 0, 0)
	cases := []struct {
		rule                         Rule
		promotes, rollsBack, whenOff float64
	}{
		{Flagger("Flagger", usualPlan(), 60), 240, 360, 360}, // six ticks, and no data is a failure
		{Argo("Argo 0", pauses(), 0), 480, 60, 100},          // five errors, 10 s apart
		{Argo("Argo 3", pauses(), 3), 480, 240, 100},
		{MannWhitney("Mann-Whitney", usualPlan()), 1200, 300, 300},
	}
	for _, c := range cases {
		t.Run(c.rule.Name, func(t *testing.T) {
			cells, err := Play(t.Context(), []Scenario{plain, broken}, []Rule{c.rule}, Runs{Count: 20})
			require.NoError(t, err)
			require.InDelta(t, c.promotes, cells[0].Median.Value, 0)
			require.InDelta(t, c.rollsBack, cells[1].Median.Value, 0)
			outcome := c.rule.Run(idle, 1)
			require.True(t, outcome.RolledBack)
			require.InDelta(t, c.whenOff, outcome.Took, 0)
		})
	}
}

// A seed gives the same run again, whatever else is played.
func TestRunsRepeat(t *testing.T) {
	for _, s := range []Scenario{GoodCanaries()[9], GoodCanaries()[13], Regressions()[5]} {
		for _, rule := range append(Columns(), Live()...) {
			require.Equal(t, rule.Run(s, 7), rule.Run(s, 7), "%s: %s", rule.Name, s.Name)
		}
	}
}

// The rounds that a view gives add up to what its world counted, however it is scraped, and each ends
// after the one before.
func TestViewLosesNothing(t *testing.T) {
	for _, vantage := range []Vantage{{Scrape: 15}, {Scrape: 15, Callers: 3}, {Scrape: 1, Callers: 2}} {
		for _, change := range []func(*Scenario){func(*Scenario) {}, func(s *Scenario) { s.MetricsAway = true }} {
			s := good("any", 40, 0.02, 0, 0).with(change)
			limit := 500 * time.Millisecond
			w := newWorld(s, vantage, 5, gateEdges(s, histogramEdges(), limit), limit)
			v := newView(w, limit)
			w.advance(0)
			w.shift(0.25)
			w.advance(300)
			rounds := v.since(time.Time{})
			var canary, stable analysis.Counts
			for i, round := range rounds {
				canary, stable = plus(canary, round.Canary), plus(stable, round.Stable)
				require.True(t, i == 0 || round.End.After(rounds[i-1].End) || round.Open)
			}
			want := [2]int{}
			for i, m := range w.meters {
				seen := v.latest[i]
				if w.pods[m.pod].canary {
					want[0] += seen.requests
				} else {
					want[1] += v.last[i].requests // what is open is told of the canary only
				}
			}
			require.EqualValues(t, want[0], canary.Requests)
			require.EqualValues(t, want[1], stable.Requests)
			require.Positive(t, canary.Errors)
		}
	}
}

func TestIntervals(t *testing.T) {
	require.InDelta(t, 0, Share(0, 100).Low, 1e-9)
	require.InDelta(t, 3.7, Share(0, 100).High, 0.05)
	require.InDelta(t, 2.2, Share(0.05, 100).Low, 0.05)
	values := make([]float64, 101)
	for i := range values {
		values[i] = float64(i)
	}
	require.InDelta(t, 50, Quantile(values, 0.5).Value, 0)
	require.Less(t, Quantile(values, 0.5).Low, 45.0)
	require.True(t, math.IsNaN(Quantile(nil, 0.5).Value))
	require.Equal(t, Met, Interval{1, 0.5, 2}.Against(1))
	require.Equal(t, Within, Interval{1, 0.5, 2}.Against(0.7))
	require.Equal(t, Missed, Interval{1, 0.5, 2}.Against(0.3))
	require.Equal(t, Missed, Interval{math.NaN(), math.NaN(), math.NaN()}.Against(3))
}

func TestResultsAreJSON(t *testing.T) {
	cells, err := Play(t.Context(), GoodCanaries()[3:4], Columns()[4:6], Runs{Count: 3})
	require.NoError(t, err)
	encoded, err := json.Marshal(Results(cells))
	require.NoError(t, err)
	require.Contains(t, string(encoded), `"case":"research: stable 0.1 % 500 req/s"`)
	require.Contains(t, Table(cells, []string{"gate"}, true), "| stable 0.1 % 500 req/s | 0.0 [0.0-56.2]; 240 | 0.0; 240 | as good |")
	require.Contains(t, BarTable(cells), "| stable 0.1 % 500 req/s | gate | median time | 240 s | 240.0 | met |")
}

func TestRegressionsAreComplete(t *testing.T) {
	names := map[string]bool{}
	for _, s := range append(GoodCanaries(), Regressions()...) {
		require.False(t, names[s.Name], s.Name)
		names[s.Name] = true
	}
	for _, bar := range Bars() {
		require.True(t, names[bar.Scenario], bar.Scenario)
	}
	for _, ablation := range Ablations() {
		for _, s := range ablation.Scenarios {
			require.NotEmpty(t, s.Name, ablation.Piece)
		}
	}
}
