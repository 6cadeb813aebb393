// SPDX-License-Identifier: Apache-2.0

package simulation

import (
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

// reported is the time between two reports, in seconds.
const reported = 0.5

// Live are the columns of what proxies report: in place of scrapes, and beside them.
func Live() []Rule {
	return []Rule{
		Gate(GateLive, usualPlan(), GateOptions{Vantage: Vantage{Scrape: reported}, Interval: reported, Fresh: true}),
		Beside(GateBeside, usualPlan(), 15, 5),
	}
}

// Beside is the gate over scrapes and one over live reports beside it, which share the bound on false
// rollbacks and of which the second can only fail a canary. A pod is scraped every so many seconds, and the gate
// over that judges at the interval, in seconds.
func Beside(name string, plan Plan, scrape, interval int) Rule {
	plan.Config.FalseRollback /= 2
	return Rule{Name: name, Run: func(s Scenario, seed uint64) Outcome { return runBeside(s, seed, plan, scrape, interval) }}
}

func runBeside(s Scenario, seed uint64, plan Plan, scrape, interval int) Outcome {
	limit := plan.judgedEdge()
	w := newWorld(s, Vantage{Scrape: reported}, seed, gateEdges(s, plan.Histogram, limit), limit)
	w.reported = true
	reports, scrapes := newView(w, limit), newView(w, limit)
	reports.picked = [2]time.Duration{}
	due := make([]int, len(w.next))
	for i := range due {
		due[i] = int(float64(scrape) / reported * w.random.Float64())
	}
	w.scraped = func(scraper int, now float64) {
		reports.scraped(scraper, now)
		if due[scraper]--; due[scraper] < 0 {
			due[scraper] = int(float64(scrape)/reported) - 1
			if !w.down(now) {
				scrapes.scraped(scraper, now)
			}
		}
	}
	w.advance(0)
	run, err := plan.Begin(epoch())
	if err != nil {
		panic(err) // Validate was not asked
	}
	beside := &watch{view: reports, last: epoch()}
	if beside.gate, err = analysis.Begin(plan.Config, epoch()); err != nil {
		panic(err) // as above
	}
	beside.gate.Enter(plan.gateStep(0, epoch()))
	w.shift(run.Weight())
	reader := &reader{view: scrapes, run: run}
	for report, horizon := 1, plan.horizon(); w.now < horizon; report++ {
		w.advance(float64(report) * reported)
		if reason := beside.fails(at(w.now)); reason != "" {
			outcome := w.judged(run, Outcome{RolledBack: true})
			outcome.Reason = reason
			return outcome
		}
		if report%int(float64(interval)/reported) != 0 || w.down(w.now) {
			continue
		}
		reader.read()
		switch run.Look(at(w.now)) {
		case Promote:
			return w.judged(run, Outcome{Promoted: true})
		case RollBack:
			return w.judged(run, Outcome{RolledBack: true})
		case Next:
			beside.gate.Enter(plan.gateStep(run.step, at(w.now)))
			w.shift(run.Weight())
		case Stay:
		}
	}
	return w.judged(run, Outcome{})
}

// watch is the gate over live reports beside another.
type watch struct {
	view *view
	gate *analysis.Gate
	last time.Time
}

// fails says why the canary is to be taken back, if it is, for its requests alone.
func (l *watch) fails(now time.Time) string {
	for _, round := range l.view.since(l.last) {
		l.gate.Add(round)
		if !round.Open {
			l.last = round.End
		}
	}
	judgement := l.gate.Judge(now)
	if judgement.Verdict == analysis.VerdictFail && (judgement.Cause == analysis.CauseWorse || judgement.Cause == analysis.CauseObjective) {
		return judgement.Reason
	}
	return ""
}
