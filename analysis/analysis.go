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

// Counts are requests of one revision and how many of them were bad.
type Counts struct {
	Requests uint64
	// Errors are responses classified as failures.
	Errors uint64
	// Slow are responses that took longer than the latency objective's limit.
	Slow uint64
}

// Round is what both revisions did between the end of the round before and End, complete: every
// live pod of both revisions has reported.
type Round struct {
	End    time.Time
	Canary Counts
	Stable Counts
}

// Objectives are what a workload promises.
type Objectives struct {
	// SuccessRate is the least share of requests that succeed, in percent, above 0 and below 100.
	SuccessRate float64
	// LatencyQuantile of the responses, above 0 and below 1, take at most LatencyLimit.
	LatencyQuantile float64
	LatencyLimit    time.Duration
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
}

// Judgement is a verdict with its reason in one line.
type Judgement struct {
	Verdict Verdict
	Reason  string
	// Canary and Stable are the totals since the run's start.
	Canary Counts
	Stable Counts
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
}

// Source reads rounds. An error means that nothing is known: the caller holds, and never fails.
type Source interface {
	Rounds(ctx context.Context, query Query) ([]Round, error)
}
