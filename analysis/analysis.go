// SPDX-License-Identifier: Apache-2.0

// Package analysis decides whether a canary is worse than stable: a pure fold over rounds of
// counter increments. Wait and hold are never failures.
//
// It must not know a cluster, a network or a clock: sources of rounds live in its subpackages.
package analysis

import (
	"context"
	"time"
)

// Verdict is the outcome of one judgement.
type Verdict string

// Verdicts. Wait: not enough evidence yet. Hold: no data, suspicious, or both revisions bad.
const (
	VerdictPass Verdict = "pass"
	VerdictFail Verdict = "fail"
	VerdictWait Verdict = "wait"
	VerdictHold Verdict = "hold"
)

// Cause says which rule gave a verdict, for programs; people read the reason.
type Cause string

// Causes, in the order in which the rules are asked.
const (
	CauseInvalid      Cause = "invalid"      // hold: the configuration cannot be judged by
	CauseWorse        Cause = "worse"        // fail: worse than stable beyond what is tolerated
	CauseObjective    Cause = "objective"    // fail: an objective is broken and the canary is to blame
	CauseRange        Cause = "range"        // fail or wait: a number is out of its range
	CauseShared       Cause = "shared"       // hold or fail: an objective is broken, but not by the canary alone
	CauseSuspicious   Cause = "suspicious"   // hold: evidence against the canary that is not decisive
	CauseNoData       Cause = "no-data"      // hold: no complete round for three scrapes
	CauseEvidence     Cause = "evidence"     // pass: what would matter is ruled out
	CauseLowEvidence  Cause = "low-evidence" // pass: the step's maximum is over, too few requests to rule it out
	CauseInconclusive Cause = "inconclusive" // pass, hold or fail: the step's deadline is over
	CauseClock        Cause = "clock"        // wait: the step's hold is not over
	CauseFewRequests  Cause = "few-requests" // wait: not enough evidence yet
	CauseUnconfirmed  Cause = "unconfirmed"  // wait: the step's weight is not acknowledged
)

// Counts are requests of one revision and how many of them were bad. An attempt counts for the
// revision that was drawn first; one that found no endpoint of it is a request that failed.
type Counts struct {
	Requests uint64 `json:"requests,omitempty"`
	// Errors are responses classified as failures, and requests without a response.
	Errors uint64 `json:"errors,omitempty"`
	// Slow are responses that took longer than the latency objective's limit.
	Slow uint64 `json:"slow,omitempty"`
	// Over are the responses that took longer than each of the round's Edges.
	Over [2]uint64 `json:"over,omitzero"`
}

// Pair are a custom metric's counters: how many there were, and how many of them were good.
type Pair struct {
	Total uint64 `json:"total,omitempty"`
	Good  uint64 `json:"good,omitempty"`
}

// Round is what both revisions did between the end of the round before and End, complete: every
// live pod of both revisions has reported.
type Round struct {
	End time.Time
	// Open: the round is not complete, and is the last one. Canary is what was seen of it by End. What
	// is compared waits for a round's end, the objectives do not.
	Open   bool
	Canary Counts
	Stable Counts
	// CanaryCold and StableCold are those of them that came from pods in their WarmUp. They count for
	// errors, but no canary fails for their latencies.
	CanaryCold, StableCold Counts
	// ColdKnown: CanaryCold and StableCold were worked out by pod. Else the canary is taken to be cold
	// for a WarmUp after its first request.
	ColdKnown bool
	// Edges of the latency histogram, beside the objective's, at which the revisions are compared;
	// 0 where there is none. They stay as they are for a whole run.
	Edges [2]time.Duration
	// StablePods are stable's counts by pod, if they are known: how much the pods differ from each
	// other says how far the counts of single pods may be trusted.
	StablePods []Counts
	// CanaryPods are the canary's by pod, if they are known: what one pod fails is not yet the revision's fault.
	CanaryPods []Counts
	// CanaryCustom and StableCustom are the custom metrics, in the order of Config.Custom.
	CanaryCustom, StableCustom []Pair
	// Glimpse of a disaster at the end of the last round, if there is one.
	Glimpse *Glimpse
}

// Step is where the run stands.
type Step struct {
	// StartedAt is when the step's weight was acknowledged.
	StartedAt time.Time
	// Hold is the least duration of the step.
	Hold time.Duration
	// Weight and NextWeight are the canary's share now and after the next pass, in percent.
	Weight     int32
	NextWeight int32
	// Alone: the canary is not compared with stable in this step, because its requests are chosen by
	// what they are (a header, a cookie) and so come from other people.
	Alone bool
}

// Value is one sample of a number that Config.Ranges bounds. A NaN is no data.
type Value struct {
	At     time.Time
	Number float64
}

// Judgement is a verdict with its reason in one line.
type Judgement struct {
	Verdict Verdict
	Cause   Cause
	Reason  string
	// Canary and Stable are the totals since the run's start.
	Canary Counts
	Stable Counts
	// Evidence against the canary, by family.
	Evidence []Evidence
}

// Evidence is how much speaks against a canary in one family of tests.
type Evidence struct {
	// Family is slo-errors, cmp-errors, slo-latency, cmp-latency or cmp- with a custom metric's name.
	Family string
	// Log10 of the e-value, and the Limit that fails the canary. An e-value of 10^x is reached by a
	// good canary with a chance of at most 10^-x.
	Log10, Limit float64
}

// Query asks for the rounds of one run.
type Query struct {
	Namespace string
	// Workload is the Deployment's name.
	Workload string
	// CanaryHash and StableHash are the pod-template-hash of the two revisions' pods.
	CanaryHash, StableHash string
	// Since is the run's start: increments before it are left out. Now bounds the query.
	Since, Now time.Time
	// LatencyLimit: responses over it are slow.
	LatencyLimit time.Duration
	// Before is how long before Since stable is read as well, at most 1h: the gate learns from it how
	// stable's pods differ and at which edges latencies are compared. 0 is not at all.
	Before time.Duration
	// After: the rounds that end by then are known already. Zero is none.
	After time.Time
	// Edges at which latencies are compared, if that is known; else they are chosen from the time Before.
	Edges [2]time.Duration
	// Custom are the counters of Config.Custom, in its order.
	Custom []CustomQuery
	// RoundLength is how long a round usually takes, if that is known: so far back is read before After.
	RoundLength time.Duration
}

// Selector names series of one metric, by labels that have these very values.
type Selector struct {
	Metric string
	Labels map[string]string
}

// CustomQuery names the counters of one metric of good and total counts.
type CustomQuery struct {
	Total, Good Selector
}

// NumberQuery asks for a number of Config.Ranges.
type NumberQuery struct {
	Name      string
	Namespace string
	// Hashes are the pod-template-hash of the revisions whose pods are looked at.
	Hashes   []string
	Selector Selector
	// Aggregate makes one number of the pods': sum, avg, min or max.
	Aggregate string
	// Expression in the language of the source is asked in place of the Selector, if there is one. Hashes
	// are then the canary's and stable's, and Workload is the Deployment's name.
	Expression string
	Workload   string
	Now        time.Time
}

// Numbers reads numbers. A NaN is no data; an error means that nothing is known.
type Numbers interface {
	Number(ctx context.Context, query NumberQuery) (Value, error)
}

// Source reads rounds. An error means that nothing is known: the caller holds, and never fails. Rounds that
// come with an error are whole but for custom metrics: they may fail the canary, and are read again.
type Source interface {
	Rounds(ctx context.Context, query Query) ([]Round, error)
}

// News tells of a workload that there is something new to judge. An alarm is what may fail its canary at once:
// it comes before other news.
type News func(namespace, workload string, alarm bool)

func (counts Counts) plus(more Counts) Counts {
	return Counts{
		Requests: counts.Requests + more.Requests,
		Errors:   counts.Errors + more.Errors,
		Slow:     counts.Slow + more.Slow,
		Over:     [2]uint64{counts.Over[0] + more.Over[0], counts.Over[1] + more.Over[1]},
	}
}
