// SPDX-License-Identifier: Apache-2.0

// Package backtest releases, over metrics that were recorded, canaries that are no other than stable,
// and some that are spoilt, and says what the gate that ships would have done.
//
// It must not know where the metrics come from, nor read a clock.
package backtest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/simulation"
)

// Recording is what a workload's pods counted for a while.
type Recording interface {
	// Revision of the workload that the pods have.
	Revision() string
	// Pods that were there at the beginning.
	Pods() []string
	// Rounds with some pods as the canary's; with none, all are stable's.
	Rounds(canaries []string) ([]analysis.Round, error)
}

// Recorder reads what happened from one time to another.
type Recorder func(ctx context.Context, from, to time.Time) (Recording, error)

// Split says how a canary's requests are told from stable's.
type Split string

// Splits. With pods, half of the pods are the canary's, and requests are left out until it has its
// weight. With requests each one is drawn, so no two pods are compared.
const (
	SplitPods     Split = "pods"
	SplitRequests Split = "requests"
)

// Options of a backtest.
type Options struct {
	Plan simulation.Plan
	// From and To bound when releases begin, one each Every. End is when the recordings end.
	From, To, End time.Time
	Every         time.Duration
	// Length after which a release is given up, undecided.
	Length time.Duration
	Split  Split
	// Releases at each time, each with other pods or requests.
	Releases int
	Seed     uint32
	// Interval between two judgements.
	Interval time.Duration
	Defects  []Defect
}

// Report of a backtest.
type Report struct {
	Hours []Hour
	// FalseAlarms is the share, in percent, of releases of what was stable that were rolled back, and
	// Promoted and Undecided the shares that were promoted or came to no end.
	FalseAlarms, Promoted, Undecided simulation.Interval
	// Median and P95 of the seconds to the promotion.
	Median, P95 simulation.Interval
	// Releases that were judged, of the hours in which there were pods.
	Releases int
	Defects  []Detection
}

// Hour is what came of the releases that began at one time.
type Hour struct {
	Start time.Time
	// Revision that was stable, and how many pods it had. Without pods nothing was released.
	Revision string
	Pods     int
	Split    Split
	// Requests per second, and the shares of them in percent that failed and that were slow, during
	// the releases.
	Requests, Errors, Slow float64
	// Releases, and how many of them were promoted and rolled back.
	Releases, Promoted, RolledBack int
	// Median of the seconds to the promotion; NaN where there was none.
	Median float64
	// Reason of the first rollback, or else of the first release that came to no end.
	Reason string
}

// Detection of a defect, over all hours.
type Detection struct {
	Name string
	// Missed and Undecided are shares of releases in percent; Median and P95 seconds to the rollback;
	// Bad is the mean of the canary's bad requests until the decision.
	Missed, Undecided, Median, P95, Bad simulation.Interval
	Releases                            int
}

// Run a backtest.
func Run(ctx context.Context, options Options, record Recorder) (*Report, error) {
	report := &Report{}
	var good []simulation.Outcome
	spoilt := make([][]simulation.Outcome, len(options.Defects))
	for number, start := uint64(0), options.From; start.Before(options.To); number, start = number+1, start.Add(options.Every) {
		end := start.Add(options.Length)
		if end.After(options.End) {
			end = options.End
		}
		recording, err := record(ctx, start, end)
		if err != nil {
			return nil, err
		}
		t := &trial{Options: options, recording: recording, start: start, end: end, number: number}
		hour, err := t.hour()
		if err != nil {
			return nil, err
		}
		good = append(good, t.good...)
		for i := range t.spoilt {
			spoilt[i] = append(spoilt[i], t.spoilt[i]...)
		}
		report.Hours = append(report.Hours, hour)
	}
	report.sum(good)
	for i, defect := range options.Defects {
		report.Defects = append(report.Defects, report.detection(defect.Name, spoilt[i]))
	}
	return report, nil
}

// trial is one hour.
type trial struct {
	Options
	recording  Recording
	start, end time.Time
	number     uint64
	good       []simulation.Outcome
	spoilt     [][]simulation.Outcome
}

func (t *trial) hour() (Hour, error) {
	pods := t.recording.Pods()
	hour := Hour{Start: t.start, Revision: t.recording.Revision(), Pods: len(pods), Split: t.Split, Median: math.NaN()}
	if len(pods) == 0 {
		hour.Reason = "the workload had no pods then"
		return hour, nil
	}
	if len(pods) == 1 {
		hour.Split = SplitRequests
	}
	all, err := t.recording.Rounds(nil)
	if err != nil {
		return hour, fmt.Errorf("read the rounds from %s: %w", t.start.UTC().Format(time.RFC3339), err)
	}
	hour.describe(all, t.start)
	t.spoilt = make([][]simulation.Outcome, len(t.Defects))
	for i := range t.Releases {
		if err := t.release(hour.Split, pods, uint64(i)); err != nil {
			return hour, err
		}
	}
	hour.sum(t.good)
	return hour, nil
}

// describe what stable did.
func (h *Hour) describe(rounds []analysis.Round, start time.Time) {
	var sum analysis.Counts
	var last time.Time
	for _, round := range rounds {
		if round.End.After(start) {
			sum, last = plus(sum, round.Stable), round.End
		}
	}
	if sum.Requests > 0 {
		h.Requests = float64(sum.Requests) / last.Sub(start).Seconds()
		h.Errors = 100 * float64(sum.Errors) / float64(sum.Requests)
		h.Slow = 100 * float64(sum.Slow) / float64(sum.Requests)
	}
}

// release a good canary and one with each defect, over the same pods.
func (t *trial) release(split Split, pods []string, i uint64) error {
	random := func(stream uint64) simulation.Sampler {
		return simulation.NewSampler(uint64(t.Seed)<<32+t.number, i<<8+stream)
	}
	var canaries []string
	if split == SplitPods {
		shuffled := slices.Clone(pods)
		random(0).Shuffle(len(shuffled), func(a, b int) { shuffled[a], shuffled[b] = shuffled[b], shuffled[a] })
		canaries = shuffled[:len(shuffled)/2]
	}
	rounds, err := t.recording.Rounds(canaries)
	if err != nil {
		return fmt.Errorf("read the rounds from %s: %w", t.start.UTC().Format(time.RFC3339), err)
	}
	play := func(defect Defect, stream uint64) (simulation.Outcome, error) {
		r := &release{
			plan: t.Plan, rounds: rounds, start: t.start, end: t.end, interval: t.Interval,
			byPod: split == SplitPods, defect: defect, random: random(stream),
		}
		return r.play()
	}
	outcome, err := play(Defect{}, 1)
	if err != nil {
		return err
	}
	t.good = append(t.good, outcome)
	for j, defect := range t.Defects {
		outcome, err := play(defect, uint64(j)+2)
		if err != nil {
			return err
		}
		t.spoilt[j] = append(t.spoilt[j], outcome)
	}
	return nil
}

// sum up the releases of good canaries.
func (h *Hour) sum(outcomes []simulation.Outcome) {
	var took []float64
	rolledBack, undecided := "", ""
	for _, o := range outcomes {
		h.Releases++
		switch {
		case o.Promoted:
			h.Promoted++
			took = append(took, o.Took)
		case o.RolledBack:
			h.RolledBack++
			if rolledBack == "" {
				rolledBack = o.Reason
			}
		case undecided == "":
			undecided = o.Reason
		}
	}
	if len(took) > 0 {
		slices.Sort(took)
		h.Median = simulation.Quantile(took, 0.5).Value
	}
	if h.Reason = rolledBack; rolledBack == "" {
		h.Reason = undecided
	}
}

// judged is how many hours had releases. Releases of one hour are not independent of each other: the
// intervals of shares are those of as many releases as there were hours.
func (r *Report) judged() int {
	hours := 0
	for _, hour := range r.Hours {
		if hour.Releases > 0 {
			hours++
		}
	}
	return hours
}

func (r *Report) share(part, whole int) simulation.Interval {
	none := simulation.Interval{Value: math.NaN(), Low: math.NaN(), High: math.NaN()}
	if whole == 0 {
		return none
	}
	return simulation.Share(float64(part)/float64(whole), float64(r.judged()))
}

func (r *Report) sum(outcomes []simulation.Outcome) {
	var promoted, rolledBack int
	var took []float64
	for _, o := range outcomes {
		switch {
		case o.Promoted:
			promoted++
			took = append(took, o.Took)
		case o.RolledBack:
			rolledBack++
		}
	}
	slices.Sort(took)
	r.Releases = len(outcomes)
	r.FalseAlarms, r.Promoted = r.share(rolledBack, r.Releases), r.share(promoted, r.Releases)
	r.Undecided = r.share(r.Releases-promoted-rolledBack, r.Releases)
	r.Median, r.P95 = simulation.Quantile(took, 0.5), simulation.Quantile(took, 0.95)
}

func (r *Report) detection(name string, outcomes []simulation.Outcome) Detection {
	var missed, caught int
	var took, bad []float64
	for _, o := range outcomes {
		bad = append(bad, o.Bad)
		switch {
		case o.Promoted:
			missed++
		case o.RolledBack:
			caught++
			took = append(took, o.Took)
		}
	}
	slices.Sort(took)
	return Detection{
		Name: name, Releases: len(outcomes),
		Missed: r.share(missed, len(outcomes)), Undecided: r.share(len(outcomes)-missed-caught, len(outcomes)),
		Median: simulation.Quantile(took, 0.5), P95: simulation.Quantile(took, 0.95), Bad: simulation.Mean(bad),
	}
}
