// SPDX-License-Identifier: Apache-2.0

package simulation

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis"
)

func TestPlanValidate(t *testing.T) {
	require.NoError(t, usualPlan().Validate())
	for name, test := range map[string]struct {
		change func(*Plan)
		want   string
	}{
		"no steps":    {func(p *Plan) { p.Steps = nil }, "without steps"},
		"not rising":  {func(p *Plan) { p.Steps[2].Weight = 0.1 }, "weight of step 3"},
		"above all":   {func(p *Plan) { p.Steps[3].Weight = 1.1 }, "weight of step 4"},
		"hold":        {func(p *Plan) { p.Steps[0].Hold = -1 }, "hold of step 1 is negative"},
		"gate":        {func(p *Plan) { p.Config.Tolerance = 0.5 }, "tolerance"},
		"objective":   {func(p *Plan) { p.Config.Objectives.SuccessRate = 100 }, "success rate"},
		"no latency":  {func(p *Plan) { p.Config.Objectives.LatencyLimit = 0 }, "latency limit"},
		"undecidable": {func(p *Plan) { p.OnInconclusive = "never" }, "inconclusive"},
	} {
		t.Run(name, func(t *testing.T) {
			plan := usualPlan()
			test.change(&plan)
			require.ErrorContains(t, plan.Validate(), test.want)
		})
	}
}

// A plan ends with the bake at 100 %, which other tools do not have.
func baked() Plan {
	plan := usualPlan()
	plan.Steps = []Step{{0.1, time.Minute}, {0.5, 2 * time.Minute}, {1, 5 * time.Minute}}
	plan.Config.Steps = len(plan.Steps)
	return plan
}

func TestPlansOfPeople(t *testing.T) {
	plan := baked()
	require.NoError(t, plan.Validate())
	require.Len(t, plan.below(), 2)
	require.Equal(t, 90*time.Second, plan.MeanHold())
	sluice := Gate(GateServer, plan, GateOptions{Vantage: Vantage{Scrape: 15}, Interval: 5})
	healthy := good("healthy", 100, 0.001, 0, 0)
	// What shows under the whole load only is caught in the bake.
	late := bad("late", 100, 0.001, Expected{}).with(func(s *Scenario) { s.AddErrors, s.OnsetWeight = 0.2, 100 })
	cells, err := Play(t.Context(), []Scenario{healthy, late}, []Rule{sluice, Flagger("Flagger", plan, 90), Argo("Argo", plan, 3)}, Runs{Count: 20})
	require.NoError(t, err)

	require.InDelta(t, 480, cells[0].Median.Value, 0)
	require.Zero(t, cells[0].Wrong.Value)
	require.Len(t, cells[0].Stages, 3)
	for i, want := range []float64{60, 180, 480} {
		require.InDelta(t, want, cells[0].Stages[i].Left.Value, 30)
		require.Zero(t, cells[0].Stages[i].RolledBack.Value)
	}
	require.InDelta(t, 180, cells[1].Median.Value, 0)
	require.InDelta(t, 180, cells[2].Median.Value, 0)

	require.Zero(t, cells[3].Wrong.Value)
	require.InDelta(t, 100, cells[3].Stages[2].RolledBack.Value, 0)
	require.Contains(t, cells[3].Example, "failed")
	require.InDelta(t, 100, cells[4].Wrong.Value, 0)
	require.Zero(t, cells[4].Bad.Value-cells[1].Bad.Value, "the same runs")
}

// Without requests a step ends as the plan says.
func TestPlansWithoutEvidence(t *testing.T) {
	idle := good("idle", 0, 0.001, 0, 0)
	for policy, want := range map[analysis.Policy]Outcome{
		analysis.PolicyHold:     {},
		analysis.PolicyRollback: {RolledBack: true, Took: 60 + 3600},
		analysis.PolicyAdvance:  {Promoted: true, Low: true, Took: 60 + 120 + 300 + 3*3600},
	} {
		plan := baked()
		plan.Config.OnInconclusive = analysis.PolicyHold
		plan.MaximumHold, plan.OnInconclusive = time.Hour, policy
		outcome := Gate(GateServer, plan, GateOptions{Vantage: Vantage{Scrape: 15}, Interval: 5}).Run(idle, 1)
		require.Equal(t, [3]bool{want.Promoted, want.RolledBack, want.Low}, [3]bool{outcome.Promoted, outcome.RolledBack, outcome.Low}, policy)
		require.NotEmpty(t, outcome.Reason)
		if policy != analysis.PolicyHold {
			require.InDelta(t, want.Took, outcome.Took, 5, policy)
		}
	}
}

func TestSeeds(t *testing.T) {
	rule := Gate(GateServer, usualPlan(), GateOptions{Vantage: Vantage{Scrape: 15}, Interval: 5})
	scenario := bad("bad", 50, 0.001, Expected{}).with(func(s *Scenario) { s.AddErrors = 0.05 })
	play := func(seed uint32) Cell {
		cells, err := Play(t.Context(), []Scenario{scenario}, []Rule{rule}, Runs{Count: 20, Seed: seed})
		require.NoError(t, err)
		return cells[0]
	}
	require.Equal(t, fmt.Sprint(play(1)), fmt.Sprint(play(1))) // a NaN is not equal to itself
	require.NotEqual(t, play(1).Bad, play(2).Bad)
}
