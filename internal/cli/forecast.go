// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/simulation"
)

// forecast is what sluice simulate found. Shares are in percent, times in seconds.
type forecast struct {
	Plan      []forecastStep   `json:"plan"`
	Objective string           `json:"objective"`
	Service   string           `json:"service"`
	Metrics   string           `json:"metrics"`
	Notes     []string         `json:"notes,omitempty"`
	Runs      int              `json:"runs"`
	Seed      uint32           `json:"seed"`
	Canaries  []forecastCanary `json:"canaries"`
}

type forecastStep struct {
	WeightPercent float64 `json:"weightPercent"`
	HoldSeconds   float64 `json:"holdSeconds"`
}

// forecastCanary is one canary, good or with a defect.
type forecastCanary struct {
	Defect string         `json:"defect,omitempty"`
	Rules  []forecastRule `json:"rules"`
}

// forecastRule is what one rule did with it. An estimate is left out where there was nothing to estimate.
type forecastRule struct {
	Rule string `json:"rule"`
	// Of a good canary false rollbacks are counted, of another one regressions that were promoted.
	FalseRollbacks    *estimate       `json:"falseRollbacksPercent,omitempty"`
	MissedRegressions *estimate       `json:"missedRegressionsPercent,omitempty"`
	PromotedAfter     *estimate       `json:"promotedAfterSeconds,omitempty"`
	DetectedAfter     *estimate       `json:"detectedAfterSeconds,omitempty"`
	Slowest           *estimate       `json:"p95Seconds,omitempty"`
	BadRequests       *estimate       `json:"badRequests,omitempty"`
	Undecided         *estimate       `json:"undecidedPercent,omitempty"`
	LowEvidence       *estimate       `json:"lowEvidencePercent,omitempty"`
	Steps             []forecastStage `json:"steps,omitempty"`
	Example           string          `json:"example,omitempty"`
}

type forecastStage struct {
	LeftAfter  *estimate `json:"leftAfterSeconds,omitempty"`
	RolledBack *estimate `json:"rolledBackPercent"`
}

// estimate with its 95 % confidence interval.
type estimate struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

func newEstimate(i simulation.Interval) *estimate {
	if math.IsNaN(i.Value) {
		return nil
	}
	round := func(value float64) float64 { return math.Round(value*1000) / 1000 }
	return &estimate{round(i.Value), round(i.Low), round(i.High)}
}

func newForecast(plan simulation.Plan, cells []simulation.Cell) *forecast {
	f := &forecast{Objective: objectiveText(plan.Config.Objectives)}
	for _, step := range plan.Steps {
		f.Plan = append(f.Plan, forecastStep{math.Round(1e8*step.Weight) / 1e6, step.Hold.Seconds()})
	}
	for i, cell := range cells {
		if i == 0 || cell.Scenario.Name != cells[i-1].Scenario.Name {
			f.Canaries = append(f.Canaries, forecastCanary{Defect: defectOf(cell)})
		}
		canary := &f.Canaries[len(f.Canaries)-1]
		canary.Rules = append(canary.Rules, newForecastRule(cell))
	}
	return f
}

func defectOf(cell simulation.Cell) string {
	if cell.Scenario.Good {
		return ""
	}
	return cell.Scenario.Name
}

func newForecastRule(cell simulation.Cell) forecastRule {
	r := forecastRule{
		Rule: cell.Rule, Slowest: newEstimate(cell.P95), BadRequests: newEstimate(cell.Bad),
		Undecided: newEstimate(cell.Undecided), Example: cell.Example,
	}
	if cell.Rule == ruleSluice {
		r.LowEvidence = newEstimate(cell.Low)
	}
	if cell.Scenario.Good {
		r.FalseRollbacks, r.PromotedAfter = newEstimate(cell.Wrong), newEstimate(cell.Median)
	} else {
		r.MissedRegressions, r.DetectedAfter = newEstimate(cell.Wrong), newEstimate(cell.Median)
	}
	for _, stage := range cell.Stages {
		r.Steps = append(r.Steps, forecastStage{newEstimate(stage.Left), newEstimate(stage.RolledBack)})
	}
	return r
}

func objectiveText(objectives analysis.Objectives) string {
	text := fmt.Sprintf("%v %% succeed, %v %% within %v", objectives.SuccessRate, objectives.LatencyQuantile*100, objectives.LatencyLimit)
	if edge := analysis.LatencyEdge(objectives.LatencyLimit); edge != objectives.LatencyLimit {
		text += fmt.Sprintf(" (judged at %v, the histogram's edge below)", edge)
	}
	return text
}

// writeText tells it to a person.
func (f *forecast) writeText(out io.Writer) error {
	var steps []string
	for _, step := range f.Plan {
		steps = append(steps, fmt.Sprintf("%s %% for %v", plain(step.WeightPercent), seconds(step.HoldSeconds)))
	}
	_, err := fmt.Fprintf(out, "plan:       %s\nobjectives: %s\nservice:    %s\nmetrics:    %s\nruns:       %d of each canary, seed %d; in brackets 95 %% confidence intervals\n",
		strings.Join(steps, ", "), f.Objective, f.Service, f.Metrics, f.Runs, f.Seed)
	if err != nil {
		return err
	}
	for _, note := range f.Notes {
		if _, err := fmt.Fprintf(out, "note:       %s\n", note); err != nil {
			return err
		}
	}
	good, bad := f.tables()
	if err := writeSections(out, []section{
		{"A canary as good as stable", good},
		{"Canaries with a defect", bad},
		{"Where Sluice leaves each step, or rolls back", f.stages()},
	}); err != nil {
		return err
	}
	return f.writeExamples(out)
}

// tables of the good canary and of those with defects.
func (f *forecast) tables() (good, bad [][]string) {
	good = [][]string{{"rule", "false rollbacks", "promoted after", "95 % within", "low evidence", "undecided"}}
	bad = [][]string{{"defect", "rule", "missed", "detected after", "95 % within", "bad requests", "undecided"}}
	for _, canary := range f.Canaries {
		for _, r := range canary.Rules {
			if canary.Defect == "" {
				good = append(good, []string{r.Rule, r.FalseRollbacks.share(), r.PromotedAfter.time(), r.Slowest.time(), r.LowEvidence.share(), r.Undecided.share()})
			} else {
				bad = append(bad, []string{canary.Defect, r.Rule, r.MissedRegressions.share(), r.DetectedAfter.time(), r.Slowest.time(), r.BadRequests.count(), r.Undecided.share()})
			}
		}
	}
	return good, bad
}

// stages of our own rule.
func (f *forecast) stages() [][]string {
	head := []string{"canary"}
	for _, step := range f.Plan {
		head = append(head, plain(step.WeightPercent)+" %")
	}
	rows := [][]string{head}
	for _, canary := range f.Canaries {
		row := []string{canary.Defect}
		if canary.Defect == "" {
			row[0] = "as good as stable"
		}
		for i := range f.Plan {
			text := "-"
			if stages := canary.Rules[0].Steps; i < len(stages) {
				text = stages[i].String()
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	return rows
}

func (s forecastStage) String() string {
	var parts []string
	if s.LeftAfter != nil {
		parts = append(parts, "left after "+seconds(s.LeftAfter.Value).String())
	}
	if s.RolledBack.Value > 0 {
		parts = append(parts, "back "+plain(math.Round(10*s.RolledBack.Value)/10)+" %")
	}
	return orDash(strings.Join(parts, ", "))
}

// writeExamples repeats what the gate said in the first run of each canary.
func (f *forecast) writeExamples(out io.Writer) error {
	if _, err := fmt.Fprint(out, "\nThe last verdict of the first run:\n\n"); err != nil {
		return err
	}
	for _, canary := range f.Canaries {
		name := canary.Defect
		if name == "" {
			name = "as good as stable"
		}
		if _, err := fmt.Fprintf(out, "  %s: %s\n", name, canary.Rules[0].Example); err != nil {
			return err
		}
	}
	return nil
}

func (e *estimate) share() string {
	if e == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f %% [%.1f-%.1f]", e.Value, e.Low, e.High)
}

func (e *estimate) time() string {
	switch {
	case e == nil:
		return "-"
	case e.Low == e.High:
		return seconds(e.Value).String()
	}
	return fmt.Sprintf("%v [%v-%v]", seconds(e.Value), seconds(e.Low), seconds(e.High))
}

func (e *estimate) count() string {
	if e == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f [%.1f-%.1f]", e.Value, math.Max(0, e.Low), e.High)
}

func seconds(value float64) time.Duration {
	return time.Duration(math.Round(value)) * time.Second
}

func plain(value float64) string {
	return strconv.FormatFloat(value, 'f', -1, 64)
}
