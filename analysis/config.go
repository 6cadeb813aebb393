// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"math"
	"time"
)

// What is fixed, because nobody could choose it better than the simulations did
// (docs/benchmarks/verdict.md has what breaks without each).
const (
	// WarmUp of a pod, from its first request, fails no canary for latency: caches and connections
	// are cold. Errors count at once.
	WarmUp = 30 * time.Second
	// suspicious evidence stops a run from going on, long before it fails it.
	suspicious = 10
	// attribution: a broken objective is the canary's doing when worse than stable is this likely (95 %).
	attribution = 20
	// pseudoRequests at the step's own share steady the shares of rounds with few requests; without
	// them a round of one request says nothing and idle services are blind.
	pseudoRequests = 20
	// marginShare of the error budget is tolerated beside Config.Tolerance, so that a stable without
	// any error does not make the first error of the canary count without bound.
	marginShare = 0.1
	// stepEvidence is what the current step's own rounds must add to what cleared the canary before.
	stepEvidence = 3
	// lowEvidenceRequests of the canary in a step are the least for leaving it without full evidence.
	lowEvidenceRequests = 20
	// lateShare of decisive evidence may come after the rounds that it was seen in. Rounds of a second keep
	// two thirds of EvidenceSpan without it, which is what a hiccup of a single pod may last.
	lateShare = 0.2
	// silentScrapes without a round are a loss of data, and so is silence for silenceFloor where
	// scrapes are quicker than an evaluation.
	silentScrapes = 3
	silenceFloor  = 10 * time.Second
	// usualScrape is assumed while no round shows how long one takes.
	usualScrape = 15 * time.Second
)

// Policy is what to do where evidence cannot decide.
type Policy string

// Policies.
const (
	PolicyAdvance  Policy = "advance"
	PolicyHold     Policy = "hold"
	PolicyRollback Policy = "rollback"
)

// Objectives are what a workload promises.
type Objectives struct {
	// SuccessRate is the least share of requests that succeed, in percent, above 0 and below 100.
	SuccessRate float64
	// LatencyQuantile of the responses, above 0 and below 1, take at most LatencyLimit. A limit of 0
	// is no objective.
	LatencyQuantile float64
	LatencyLimit    time.Duration
}

// Config is what a run is judged by. Defaults has the usual values; no field has a default of its own.
type Config struct {
	Objectives Objectives
	// Steps is how many steps the run is planned to have. More may come.
	Steps int
	// Compare the canary with stable. Without it the objectives alone decide, and a fault of
	// something that both revisions need rolls back a good canary. Default true.
	Compare bool
	// Tolerance: a canary may be this many times as bad as stable, so that the spread between pods
	// and other small differences never end a run. From 1 to 100; default 1.5. Noisy fleets take 2:
	// detection takes some 20 % longer.
	Tolerance float64
	// FalseRollback bounds the probability that the run of a good canary is rolled back, however
	// often it is judged. From 0.0001 to 0.2; default 0.01.
	FalseRollback float64
	// MissedRegression bounds the probability that full evidence clears a canary whose excess of bad
	// requests would eat the whole error budget. From 0.0001 to 0.5; default 0.05.
	MissedRegression float64
	// EvidenceSpan: no shorter stretch of rounds than this may fail a canary, and never less than two
	// rounds, so that no single scrape and no hiccup of one pod rolls back. A Disaster needs the two
	// rounds only, and a Glimpse of one a scrape. From 0 to 1h; default 15s.
	EvidenceSpan time.Duration
	// StepMaximum ends a step without full evidence if the canary had 20 requests in it. It matters
	// with little traffic only. Default 10m.
	StepMaximum time.Duration
	// StepDeadline ends a step by OnInconclusive. Default 15m.
	StepDeadline time.Duration
	// OnInconclusive: what to do at the deadline of a step with fewer than 20 requests. Default hold.
	OnInconclusive Policy
	// OnSharedBreach: what to do when both revisions break an objective: hold or rollback. Default hold.
	OnSharedBreach Policy
	// Custom metrics of good and total counts are compared as errors are.
	Custom []Custom
	// Ranges bound other numbers.
	Ranges []Range
}

// Custom is a metric of good and total counts.
type Custom struct {
	Name string
	// Objective is the least share that is good, in percent, above 0 and below 100.
	Objective float64
}

// Defaults are the usual values for the usual objectives: 99 % succeed, 99 % within 500 ms.
func Defaults() Config {
	return Config{
		Objectives:       Objectives{SuccessRate: 99, LatencyQuantile: 0.99, LatencyLimit: 500 * time.Millisecond},
		Steps:            4,
		Compare:          true,
		Tolerance:        1.5,
		FalseRollback:    0.01,
		MissedRegression: 0.05,
		EvidenceSpan:     15 * time.Second,
		StepMaximum:      10 * time.Minute,
		StepDeadline:     15 * time.Minute,
		OnInconclusive:   PolicyHold,
		OnSharedBreach:   PolicyHold,
	}
}

// validate says what is wrong and what to write instead.
func (config Config) validate() error {
	if err := config.Objectives.validate(); err != nil {
		return err
	}
	for _, limit := range []struct {
		name            string
		value, min, max float64
	}{
		{"number of steps", float64(config.Steps), 1, 1000},
		{"tolerance", config.Tolerance, 1, 100},
		{"probability of a false rollback", config.FalseRollback, 0.0001, 0.2},
		{"probability of a missed regression", config.MissedRegression, 0.0001, 0.5},
		{"evidence span in seconds", config.EvidenceSpan.Seconds(), 0, 3600},
		{"step maximum in seconds", config.StepMaximum.Seconds(), 1, math.MaxInt32},
		{"step deadline in seconds", config.StepDeadline.Seconds(), 1, math.MaxInt32},
	} {
		if !(limit.value >= limit.min && limit.value <= limit.max) {
			return fmt.Errorf("the %s %v is not from %v to %v", limit.name, limit.value, limit.min, limit.max)
		}
	}
	switch config.OnInconclusive {
	case PolicyAdvance, PolicyHold, PolicyRollback:
	default:
		return fmt.Errorf("on inconclusive %q: write advance, hold or rollback", config.OnInconclusive)
	}
	switch config.OnSharedBreach {
	case PolicyHold, PolicyRollback:
	default:
		return fmt.Errorf("on a shared breach %q: write hold or rollback", config.OnSharedBreach)
	}
	for _, custom := range config.Custom {
		if custom.Name == "" || !(custom.Objective > 0 && custom.Objective < 100) {
			return fmt.Errorf("the objective %v of custom metric %q is no percentage above 0 and below 100", custom.Objective, custom.Name)
		}
	}
	for _, bound := range config.Ranges {
		if err := bound.validate(); err != nil {
			return err
		}
	}
	return nil
}

func (objectives Objectives) validate() error {
	switch {
	case !(objectives.SuccessRate > 0 && objectives.SuccessRate < 100):
		return fmt.Errorf("the success rate %v is no percentage above 0 and below 100", objectives.SuccessRate)
	case objectives.LatencyLimit < 0:
		return fmt.Errorf("the latency limit %v is negative", objectives.LatencyLimit)
	case objectives.LatencyLimit > 0 && LatencyEdge(objectives.LatencyLimit) == 0:
		return fmt.Errorf("the latency limit %v is below the lowest bucket edge of 1ms", objectives.LatencyLimit)
	case objectives.LatencyLimit > 0 && !(objectives.LatencyQuantile > 0 && objectives.LatencyQuantile < 1):
		return fmt.Errorf("the latency quantile %v is not above 0 and below 1", objectives.LatencyQuantile)
	}
	return nil
}

// decisive is the log evidence that fails a canary: the families share FalseRollback. What is taken
// off lets evidence that grew at its cap in every round arrive in spite of rounding.
func (config Config) decisive() float64 {
	const rounding = 1e-9
	return math.Log(config.families()/config.FalseRollback) - rounding
}

// families is how many tests can fail a canary: each objective by itself and against stable, each
// custom metric against stable.
func (config Config) families() float64 {
	families := 2 + len(config.Custom)
	if config.Objectives.LatencyLimit > 0 {
		families += 2
	}
	return float64(families)
}
