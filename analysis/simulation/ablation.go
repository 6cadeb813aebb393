// SPDX-License-Identifier: Apache-2.0

package simulation

import "github.com/sluice-mesh/sluice/analysis"

// Ablation compares the gate with itself without one of its pieces.
type Ablation struct {
	Piece     string
	Scenarios []Scenario
	// Rules are the gate as it is and without the piece.
	Rules []Rule
}

// Ablations of the pieces that can be taken off by configuration or by what is read.
func Ablations() []Ablation {
	rows := map[string]Scenario{}
	for _, s := range append(GoodCanaries(), Regressions()...) {
		rows[s.Name] = s
	}
	pick := func(names ...string) (picked []Scenario) {
		for _, name := range names {
			picked = append(picked, rows[name])
		}
		return picked
	}
	blip := rows["canary pod blip 10 s 50 req/s"].with(func(s *Scenario) { s.Name, s.Requests = "canary pod blip 10 s 500 req/s", 500 })
	scraped := GateOptions{Vantage: Vantage{Scrape: 15}, Interval: 5}
	without := func(change func(*GateOptions)) []Rule {
		options := scraped
		change(&options)
		return []Rule{Gate("as it is", usualPlan(), scraped), Gate("without", usualPlan(), options)}
	}
	config := func(change func(*analysis.Config)) []Rule {
		return without(func(o *GateOptions) { o.Change = change })
	}
	quick := func(span float64) GateOptions {
		return GateOptions{Vantage: Vantage{Scrape: 1}, Interval: 1, Change: func(c *analysis.Config) { c.EvidenceSpan = seconds(span) }}
	}
	return []Ablation{
		{"evidence span of 15 s, scraped every second", append(pick("canary pod blip 10 s 50 req/s", "stable 0.1 % 50 req/s, +50pp"), blip), []Rule{Gate("as it is", usualPlan(), quick(15)), Gate("5 s", usualPlan(), quick(5)), Gate("2 s", usualPlan(), quick(2))}},
		{"tolerance of 1.5", pick("pod spread 500 req/s", "stable 0.1 % 50 req/s, +1pp"), config(func(c *analysis.Config) { c.Tolerance = 1 })},
		{"comparison", pick("outage of both 60 s 50 req/s", "stable 0.1 % 50 req/s, +1pp", "latency 50 req/s, +50 %", "latency 50 req/s, tail x3"), config(func(c *analysis.Config) { c.Compare = false })},
		{"dispersion", pick("error clusters of 5 50 req/s"), without(func(o *GateOptions) { o.NoPods = true })},
		{"zero baseline", pick("stable 0.1 % 5 req/s, +1pp", "stable 0.1 % 5 req/s, +50pp"), without(func(o *GateOptions) { o.LateBirth = true })},
		{"false rollbacks at 1 % rather than 5 %", pick("stable 0.1 % 50 req/s, +1pp", "stable 0.1 % 50 req/s, +5pp"), config(func(c *analysis.Config) { c.FalseRollback = 0.05 })},
	}
}

// Columns are the rules of the two tables but for Live: other tools', then the gate at two vantages.
func Columns() []Rule {
	plan := usualPlan()
	return []Rule{
		Flagger("Flagger 30 s", plan, 30), Flagger("Flagger 60 s", plan, 60), Argo("Argo, limit 0", pauses(), 0), Argo("Argo, limit 3", pauses(), 3), MannWhitney("Mann-Whitney", plan),
		Gate(GateServer, plan, GateOptions{Vantage: Vantage{Scrape: 15}, Interval: 5}),
		Gate(GateCaller, plan, GateOptions{Vantage: Vantage{Scrape: 15, Callers: 3}, Interval: 5}),
	}
}
