// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/load"
)

// summary is what the demo has to tell at its end.
type summary struct {
	good, bad  release
	samePods   error
	counts     load.Counts
	kubeconfig string
	took       time.Duration
	prepared   time.Duration
}

// failure is why the demo has not shown what it is there to show; nil when it has.
func (s summary) failure() error {
	switch {
	case s.good.outcome != v1alpha1.OutcomePromoted:
		return fmt.Errorf("%s was not promoted but %s", s.good.version, s.good.outcome)
	case s.samePods != nil:
		return fmt.Errorf("%s was promoted with other pods than were analysed: %w", s.good.version, s.samePods)
	case s.bad.outcome != v1alpha1.OutcomeRolledBack:
		return fmt.Errorf("%s was not rolled back but %s", s.bad.version, s.bad.outcome)
	}
	return nil
}

// blamed splits the failures: errors that the bad version itself answered, and all others.
func (s summary) blamed() (bad, others uint64) {
	bad = s.counts.Versions[s.bad.version].Failures[load.ClassStatus]
	return bad, s.counts.Failed - bad
}

func (s summary) String() string {
	var b strings.Builder
	line := func(format string, values ...any) { fmt.Fprintf(&b, format+"\n", values...) }
	line("\nWhat happened")
	line("  %-4s %-11s %5.1f s after its commit%s", s.good.version, s.good.outcome, s.good.took.Seconds(), because(s.good))
	if s.samePods == nil {
		line("       the %d pods that were analysed are the pods that serve; none was restarted", len(s.good.analysed))
	} else {
		line("       NOT with the pods that were analysed: %v", s.samePods)
	}
	line("  %-4s %-11s %5.1f s after its commit%s", s.bad.version, s.bad.outcome, s.bad.took.Seconds(), because(s.bad))
	if s.bad.exposed > 0 {
		line("       %.1f s from its first request to none", s.bad.exposed.Seconds())
	}
	bad, others := s.blamed()
	line("\nWhat users saw, through a meshed and an unmeshed client without retries")
	line("  requests %d   p50 %.1f ms   p99 %.1f ms   worst lateness of the clients themselves %.0f ms",
		s.counts.Requests, s.counts.P50, s.counts.P99, s.counts.WorstLag)
	line("  failed   %d   of which %d errors that %s itself answered, %d others", s.counts.Failed, bad, s.bad.version, others)
	if others > 0 {
		s.explain(line)
	}
	line("\nPrepared in %s, all in %s", s.prepared.Round(time.Second), s.took.Round(time.Second))
	return b.String()
}

// explain lists the failures that nobody meant.
func (s summary) explain(line func(string, ...any)) {
	for name, version := range s.counts.Versions {
		for class, n := range version.Failures {
			if n > 0 && (name != s.bad.version || class != load.ClassStatus) {
				line("    %d x %s, answered by %s", n, class, name)
			}
		}
	}
	shown := 0
	slices.SortFunc(s.counts.Samples, func(a, b load.Sample) int { return a.Time.Compare(b.Time) })
	for _, sample := range s.counts.Samples {
		if shown < 5 && !strings.Contains(sample.Detail, fmt.Sprintf("version %q", s.bad.version)) {
			line("    %s %s %s: %s", sample.Time.Format(time.TimeOnly), sample.Method, sample.Class, sample.Detail)
			shown++
		}
	}
}

func because(r release) string {
	if r.message == "" {
		return ""
	}
	return ": " + r.message
}
