// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
)

// kind is what a series counts.
type kind int

const (
	succeeded   kind = iota // responses that are no failure
	failed                  // responses that are
	answered                // responses whose latency was measured
	within                  // those of them that took at most the limit
	withinFirst             // and at most each of the two other edges
	withinSecond
	lost    // requests that got no response, counted by whoever saw that
	present // nothing: that the pod was scraped
	kinds
)

// arm is a revision of the run.
type arm int

const (
	canary arm = iota
	stable
	arms
)

// series is one counter with its usable samples, oldest first.
type series struct {
	pod     string // that was scraped
	arm     arm
	kind    kind
	samples []sample
}

type sample struct {
	at    time.Time
	value float64
}

// increment is by how much a counter grew up to a scrape.
type increment struct {
	at     time.Time
	pod    string
	arm    arm
	kind   kind
	amount float64
}

// largestCount is where floats stop to count one by one; no counter of requests gets there.
const largestCount = 1 << 53

// newSeries sorts one stream of an answer. Series of other revisions and of unknown meaning are no
// part of the run.
func newSeries(p plan, stream *model.SampleStream) (series, bool) {
	label := func(name model.LabelName) string { return string(stream.Metric[name]) }
	s := series{pod: podOf(stream)}
	hash, namespace := label(labelHash), label(labelNamespace)
	if label(labelDirection) == outbound {
		if label(labelError) == canceled && hash != label(labelDestination) {
			return s, false // The canary's or stable's own proxy counts it too, for every caller.
		}
		s.kind, hash, namespace = lost, label(labelDestination), label(labelDestinationNamespace)
	} else if kind, ok := p.kindOf(label); ok {
		s.kind = kind
	} else {
		return s, false
	}
	if namespace != p.Namespace {
		return s, false // Equal templates have equal hashes.
	}
	var ok bool
	if s.arm, ok = p.armOf(hash); !ok {
		return s, false
	}
	s.samples = samples(stream, p.Now)
	return s, len(s.samples) > 0
}

// samples of a stream that can be counts, oldest first.
func samples(stream *model.SampleStream, now time.Time) []sample {
	var kept []sample
	for _, pair := range stream.Values {
		value, at := float64(pair.Value), pair.Timestamp.Time()
		if value >= 0 && value <= largestCount && !at.After(now) { // not NaN either
			kept = append(kept, sample{at, value})
		}
	}
	slices.SortStableFunc(kept, func(a, b sample) int { return a.at.Compare(b.at) })
	return kept
}

// kindOf tells what a pod counts of its own answers.
func (p plan) kindOf(label func(model.LabelName) string) (kind, bool) {
	switch name := label(model.MetricNameLabel); {
	case name == presence:
		return present, true
	case name == latencyBuckets:
		return p.bucket(label(labelEdge))
	case name == latencyCount:
		return answered, true
	case label(labelClass) == classFailure:
		return failed, true
	case label(labelClass) == classSuccess:
		return succeeded, true
	}
	return 0, false
}

// armOf tells the revisions apart by their hashes.
func (p plan) armOf(hash string) (arm, bool) {
	switch hash {
	case p.CanaryHash:
		return canary, true
	case p.StableHash:
		return stable, true
	}
	return 0, false
}

// bucket tells the edges apart. An answer that names no edge was asked for one only.
func (p plan) bucket(edge string) (kind, bool) {
	if edge == "" {
		return within, p.edge > 0
	}
	milliseconds, err := strconv.ParseFloat(edge, 64)
	if err != nil {
		return 0, false
	}
	switch at := time.Duration(milliseconds * float64(time.Millisecond)); at {
	case p.edge:
		return within, at > 0
	case p.edges[0]:
		return withinFirst, at > 0
	case p.edges[1]:
		return withinSecond, at > 0
	}
	return 0, false
}

// increments of the series after from, given the value that it had there.
func (s series) increments(from time.Time, baseline float64) []increment {
	var grown []increment
	for _, sample := range s.samples {
		if !sample.at.After(from) {
			continue
		}
		amount := sample.value - baseline
		if amount < 0 { // the process began anew, from 0
			amount = sample.value
		}
		if amount > 0 {
			grown = append(grown, increment{sample.at, s.pod, s.arm, s.kind, amount})
		}
		baseline = sample.value
	}
	return grown
}

// podOf names what was scraped.
func podOf(stream *model.SampleStream) string {
	return string(stream.Metric[labelPod]) + "\xff" + string(stream.Metric[labelInstance])
}

// young says whether a pod that was first seen at a time began since the rounds that are known, by what
// it says of itself or, if it says nothing, because other pods were seen a scrape before.
func (p plan) young(pod string, born time.Time, seen *sightings) bool {
	if p.After.IsZero() {
		return true
	}
	if started, known := p.started[pod]; known {
		return started.After(p.After.Add(-2 * max(p.RoundLength, time.Second)))
	}
	return seen.swept(born)
}

// baseline is what a series had counted at the run's start.
func (s series) baseline(p plan, seen *sightings) float64 {
	before := -1.0
	for _, sample := range s.samples {
		if !sample.at.After(p.from) {
			before = sample.value
		}
	}
	born := s.samples[0]
	switch {
	case before >= 0:
		return before
	case s.kind == present:
		return born.value
	case s.kind == lost && seen.scraped(born.at):
		// Failures appear in a caller's counters with the first of them. Prometheus was there just
		// before, so there was no older one.
		return 0
	case s.kind != lost && seen.first(s.pod).Before(born.at):
		// The pod is older than its series: born at 0 since the scrape before.
		return 0
	case s.kind != lost && s.arm == canary && !p.truncated && (!born.at.After(p.After) || p.young(s.pod, born.at, seen)):
		// A pod of the canary that was not there before the run was made in it. In the midst of a run it
		// must be young: else it is Prometheus that was not there.
		return 0
	default:
		// How old these counts are is not known; they begin to be known now.
		return math.Max(born.value, 0)
	}
}
