// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/sluice-mesh/sluice/analysis/backtest"
	"github.com/sluice-mesh/sluice/analysis/simulation"
)

// hindsight is what sluice backtest found. Shares are in percent, times in seconds.
type hindsight struct {
	Namespace string    `json:"namespace"`
	Workload  string    `json:"workload"`
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Plan      string    `json:"plan"`
	Objective string    `json:"objective"`
	Split     string    `json:"split"`
	Notes     []string  `json:"notes,omitempty"`
	Releases  int       `json:"releases"`
	Seed      uint32    `json:"seed"`
	// FalseAlarms per release, and what the gate promises.
	FalseAlarms     *estimate         `json:"falseAlarmsPercent,omitempty"`
	PromisedPercent float64           `json:"promisedPercent"`
	Promoted        *estimate         `json:"promotedPercent,omitempty"`
	Undecided       *estimate         `json:"undecidedPercent,omitempty"`
	PromotedAfter   *estimate         `json:"promotedAfterSeconds,omitempty"`
	Slowest         *estimate         `json:"p95Seconds,omitempty"`
	Defects         []hindsightDefect `json:"defects,omitempty"`
	Hours           []hindsightHour   `json:"hours"`

	// what the plots draw in
	errorBudget, slowBudget float64
	every                   time.Duration
}

type hindsightDefect struct {
	Defect        string    `json:"defect"`
	Missed        *estimate `json:"missedPercent,omitempty"`
	Undecided     *estimate `json:"undecidedPercent,omitempty"`
	DetectedAfter *estimate `json:"detectedAfterSeconds,omitempty"`
	Slowest       *estimate `json:"p95Seconds,omitempty"`
	BadRequests   *estimate `json:"badRequests,omitempty"`
}

// hindsightHour is one time at which releases began.
type hindsightHour struct {
	Start    time.Time `json:"start"`
	Outcome  string    `json:"outcome"`
	Revision string    `json:"revision,omitempty"`
	Pods     int       `json:"pods"`
	Split    string    `json:"split,omitempty"`
	// Requests per second, and the shares of failed and slow ones.
	Requests      float64  `json:"requestsPerSecond"`
	ErrorsPercent float64  `json:"errorsPercent"`
	SlowPercent   float64  `json:"slowPercent"`
	Releases      int      `json:"releases"`
	Promoted      int      `json:"promoted"`
	RolledBack    int      `json:"rolledBack"`
	PromotedAfter *float64 `json:"promotedAfterSeconds,omitempty"`
	Reason        string   `json:"reason,omitempty"`
}

// Outcomes of an hour.
const (
	hourPassed    = "passed"
	hourFailed    = "failed"
	hourUndecided = "undecided"
	hourNoData    = "no data"
)

func newHindsight(o *backtestOptions, tried *tryout, options backtest.Options, report *backtest.Report) *hindsight {
	objectives := options.Plan.Config.Objectives
	h := &hindsight{
		Namespace: o.namespace, Workload: o.workload, From: options.From.UTC(), To: options.End.UTC(),
		Plan: planText(options.Plan), Objective: objectiveText(objectives), Split: o.split, Notes: tried.notes,
		Releases: report.Releases, Seed: o.seed,
		FalseAlarms: newEstimate(report.FalseAlarms), PromisedPercent: 100 * options.Plan.Config.FalseRollback,
		Promoted: newEstimate(report.Promoted), Undecided: newEstimate(report.Undecided),
		PromotedAfter: newEstimate(report.Median), Slowest: newEstimate(report.P95),
		errorBudget: 100 - objectives.SuccessRate, slowBudget: 100 * (1 - objectives.LatencyQuantile), every: options.Every,
	}
	for _, d := range report.Defects {
		h.Defects = append(h.Defects, hindsightDefect{
			d.Name, newEstimate(d.Missed), newEstimate(d.Undecided), newEstimate(d.Median), newEstimate(d.P95), newEstimate(d.Bad),
		})
	}
	for _, hour := range report.Hours {
		h.Hours = append(h.Hours, newHindsightHour(hour))
	}
	return h
}

func newHindsightHour(hour backtest.Hour) hindsightHour {
	rounded := func(value float64) float64 { return math.Round(value*10_000) / 10_000 }
	h := hindsightHour{
		Start: hour.Start.UTC(), Outcome: hourPassed, Revision: hour.Revision, Pods: hour.Pods, Split: string(hour.Split),
		Requests: rounded(hour.Requests), ErrorsPercent: rounded(hour.Errors), SlowPercent: rounded(hour.Slow),
		Releases: hour.Releases, Promoted: hour.Promoted, RolledBack: hour.RolledBack, Reason: hour.Reason,
	}
	if !math.IsNaN(hour.Median) {
		h.PromotedAfter = &hour.Median
	}
	switch {
	case hour.Releases == 0:
		h.Outcome = hourNoData
	case hour.RolledBack > 0:
		h.Outcome = hourFailed
	case hour.Promoted < hour.Releases:
		h.Outcome = hourUndecided
	}
	return h
}

// planText is "5 % for 1m0s, 25 % for 2m0s".
func planText(plan simulation.Plan) string {
	var steps []string
	for _, step := range plan.Steps {
		steps = append(steps, fmt.Sprintf("%s %% for %v", plain(math.Round(1e8*step.Weight)/1e6), step.Hold))
	}
	return strings.Join(steps, ", ")
}

// hours with an outcome.
func (h *hindsight) hours(outcome string) int {
	count := 0
	for _, hour := range h.Hours {
		if hour.Outcome == outcome {
			count++
		}
	}
	return count
}

// outcomes of the hours in words.
func (h *hindsight) outcomes() string {
	return fmt.Sprintf("%d passed, %d failed, %d undecided, %d without data",
		h.hours(hourPassed), h.hours(hourFailed), h.hours(hourUndecided), h.hours(hourNoData))
}

// canaryText says what the canaries were.
func (h *hindsight) canaryText() string {
	if h.Split == string(backtest.SplitRequests) {
		return "requests drawn one by one"
	}
	return "half of the pods, thinned to the weights"
}

// facts are the report's head, with their titles.
func (h *hindsight) facts() [][2]string {
	facts := [][2]string{
		{"workload", h.Namespace + "/" + h.Workload},
		{"window", fmt.Sprintf("%s to %s, a release every %v", h.From.Format(time.RFC3339), h.To.Format(time.RFC3339), h.every)},
		{"plan", h.Plan},
		{"objectives", h.Objective},
		{"canaries", fmt.Sprintf("%s; %d good releases, seed %d; in brackets 95 %% confidence intervals", h.canaryText(), h.Releases, h.Seed)},
	}
	for _, note := range h.Notes {
		facts = append(facts, [2]string{"note", note})
	}
	return append(facts,
		[2]string{"hours", h.outcomes()},
		[2]string{"false alarms", fmt.Sprintf("%s of releases; the gate promises %s %%", h.FalseAlarms.share(), plain(h.PromisedPercent))},
		[2]string{"promoted", fmt.Sprintf("%s, after %s, 95 %% within %s", h.Promoted.share(), h.PromotedAfter.time(), h.Slowest.time())},
		[2]string{"undecided", h.Undecided.share()})
}

// defectRows is a table.
func (h *hindsight) defectRows() [][]string {
	rows := [][]string{{"defect", "missed", "detected after", "95 % within", "bad requests", "undecided"}}
	for _, d := range h.Defects {
		rows = append(rows, []string{d.Defect, d.Missed.share(), d.DetectedAfter.time(), d.Slowest.time(), d.BadRequests.count(), d.Undecided.share()})
	}
	return rows
}

// hourRows is a table of the hours that did not pass.
func (h *hindsight) hourRows() [][]string {
	rows := [][]string{{"from", "outcome", "rolled back", "requests/s", "errors", "slow", "why"}}
	for _, hour := range h.Hours {
		if hour.Outcome != hourPassed {
			rows = append(rows, []string{
				hour.Start.Format("2006-01-02 15:04"), hour.Outcome, fmt.Sprintf("%d of %d", hour.RolledBack, hour.Releases),
				fmt.Sprintf("%.4g", hour.Requests), fmt.Sprintf("%.3g %%", hour.ErrorsPercent), fmt.Sprintf("%.3g %%", hour.SlowPercent), hour.Reason,
			})
		}
	}
	return rows
}

// alarm is an error where more releases were rolled back than the gate promises.
func (h *hindsight) alarm() error {
	if h.FalseAlarms == nil || h.FalseAlarms.Low <= h.PromisedPercent {
		return nil
	}
	return &codeError{code: exitAlarms, message: fmt.Sprintf("%s of good releases would have been rolled back; the gate promises %s %%",
		h.FalseAlarms.share(), plain(h.PromisedPercent))}
}

// writeText tells it to a person.
func (h *hindsight) writeText(out io.Writer) error {
	for _, fact := range h.facts() {
		if _, err := fmt.Fprintf(out, "%-13s %s\n", fact[0]+":", fact[1]); err != nil {
			return err
		}
	}
	return writeSections(out, []section{
		{"The same canaries, spoilt", h.defectRows()},
		{"Times at which releases did not all pass", h.hourRows()},
	})
}
