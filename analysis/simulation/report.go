// SPDX-License-Identifier: Apache-2.0

package simulation

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Result is one line of build/results/bench-verdict.json.
type Result struct {
	Case   string             `json:"case"`
	Metric string             `json:"metric"`
	Unit   string             `json:"unit"`
	Ours   *float64           `json:"ours"`
	Low    *float64           `json:"low"`
	High   *float64           `json:"high"`
	Others map[string]float64 `json:"others"`
	Target *float64           `json:"target"`
	Met    bool               `json:"met"`
	// Within: not met, but the target lies within the confidence interval.
	Within bool `json:"within,omitempty"`
}

// Results compares the gate's cells with the bars and, for what has no bar, with what the research found.
func Results(cells []Cell) []Result {
	byCase := map[string][]Cell{}
	for _, cell := range cells {
		byCase[cell.Scenario.Name] = append(byCase[cell.Scenario.Name], cell)
	}
	var results []Result
	for _, bar := range Bars() {
		results = append(results, result("bar: "+bar.Scenario+" ("+bar.Rule+")", byCase[bar.Scenario], bar))
	}
	for _, cell := range cells {
		if cell.Rule != GateServer {
			continue
		}
		name, research := cell.Scenario.Name, cell.Scenario.Research
		for metric, limit := range map[Metric]float64{
			MetricWrong: research.Wrong, MetricMedian: research.Median, MetricP95: research.P95, MetricBad: research.Bad,
		} {
			if !math.IsNaN(limit) {
				results = append(results, result("research: "+name, byCase[name], Bar{name, GateServer, metric, limit}))
			}
		}
	}
	return results
}

func result(name string, cells []Cell, bar Bar) Result {
	r := Result{Case: name, Metric: string(bar.Metric), Unit: bar.Metric.unit(), Others: map[string]float64{}, Target: known(bar.Limit)}
	for _, cell := range cells {
		seen := cell.metric(bar.Metric)
		if cell.Rule != bar.Rule {
			if !math.IsNaN(seen.Value) {
				r.Others[cell.Rule] = seen.Value
			}
			continue
		}
		r.Ours, r.Low, r.High = known(seen.Value), known(seen.Low), known(seen.High)
		standing := seen.Against(bar.Limit)
		r.Met, r.Within = standing == Met, standing == Within
	}
	return r
}

func known(value float64) *float64 {
	if math.IsNaN(value) {
		return nil
	}
	return &value
}

// Table writes cells of the same rules as Markdown, a scenario a row.
func Table(cells []Cell, rules []string, research bool) string {
	var out strings.Builder
	header, line := "| scenario |", "|---|"
	for _, rule := range rules {
		header += " " + rule + " |"
		line += "---|"
	}
	if research {
		header += " research | gate against it |"
		line += "---|---|"
	}
	fmt.Fprintf(&out, "%s\n%s\n", header, line)
	var order []string
	byCase := map[string]map[string]Cell{}
	for _, cell := range cells {
		name := cell.Scenario.Name
		if byCase[name] == nil {
			byCase[name] = map[string]Cell{}
			order = append(order, name)
		}
		byCase[name][cell.Rule] = cell
	}
	for _, name := range order {
		fmt.Fprintf(&out, "| %s |", name)
		for _, rule := range rules {
			cell, ok := byCase[name][rule]
			if !ok {
				out.WriteString(" |")
				continue
			}
			fmt.Fprintf(&out, " %s |", cell)
		}
		if gate := byCase[name][GateServer]; research {
			fmt.Fprintf(&out, " %s | %s |", gate.Scenario.Research.text(gate.Scenario.Good), gate.standing())
		}
		out.WriteString("\n")
	}
	return out.String()
}

// String is "0.3 [0.1-1.2]; 240 [240-255]" for good canaries, with the 95th percentile and the bad
// requests for regressions.
func (c Cell) String() string {
	text := ranged(c.Wrong, 1) + "; " + ranged(c.Median, 0)
	if !c.Scenario.Good {
		text += "/" + digits(c.P95.Value, 0) + "; " + ranged(c.Bad, 0)
	}
	return text
}

func (e Expected) text(good bool) string {
	text := digits(e.Wrong, 1) + "; " + digits(e.Median, 0)
	if !good {
		text += "/" + digits(e.P95, 0) + "; " + digits(e.Bad, 0)
	}
	return text
}

// standing of the gate's cell against the research's.
func (c Cell) standing() string {
	research := c.Scenario.Research
	if math.IsNaN(research.Wrong) {
		return "-" // Nobody has tried it.
	}
	worst, why := Met, []string{}
	for _, m := range []struct {
		metric Metric
		limit  float64
	}{{MetricWrong, research.Wrong}, {MetricMedian, research.Median}, {MetricP95, research.P95}, {MetricBad, research.Bad}} {
		switch c.metric(m.metric).Against(m.limit) {
		case Missed:
			worst = Missed
			why = append(why, string(m.metric))
		case Within:
			if worst == Met {
				worst = Within
			}
		case Met:
		}
	}
	if worst == Missed {
		return "worse: " + strings.Join(why, ", ")
	}
	return "as good" + map[bool]string{true: " (within the interval)"}[worst == Within]
}

func ranged(i Interval, places int) string {
	if math.IsNaN(i.Value) {
		return "-"
	}
	if i.Low == i.High {
		return digits(i.Value, places)
	}
	return fmt.Sprintf("%s [%s-%s]", digits(i.Value, places), digits(i.Low, places), digits(i.High, places))
}

func digits(value float64, places int) string {
	if math.IsNaN(value) {
		return "-"
	}
	return fmt.Sprintf("%.*f", places, value)
}

// BarTable lists the bars with how the gate stands against them.
func BarTable(cells []Cell) string {
	var out strings.Builder
	out.WriteString("| scenario | vantage | metric | bar | measured | |\n|---|---|---|---|---|---|\n")
	for _, bar := range Bars() {
		for _, cell := range cells {
			if cell.Scenario.Name == bar.Scenario && cell.Rule == bar.Rule {
				seen := cell.metric(bar.Metric)
				fmt.Fprintf(&out, "| %s | %s | %s | %s %s | %s | %s |\n", bar.Scenario, bar.Rule, bar.Metric,
					strconv.FormatFloat(bar.Limit, 'f', -1, 64), bar.Metric.unit(), ranged(seen, 1), seen.Against(bar.Limit))
			}
		}
	}
	return out.String()
}
