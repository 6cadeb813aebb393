// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// gateway asks the gate. An error of the source is never a failure of the canary: it is reported as
// what is not known.
type gateway struct {
	source  func(*v1alpha1.Canary) (analysis.Source, error)
	timeout time.Duration
	memory  *memory
	// watchman is nil where nobody reports live.
	watchman *watchman
}

// forget a Canary whose run has ended.
func (g *gateway) forget(key client.ObjectKey) {
	g.memory.forget(key)
	g.watchman.forget(key)
}

// look judges the current step. It returns nil when no gate is due.
func (g *gateway) look(ctx context.Context, s *scene, now time.Time) *GateLook {
	status := s.canary.Status
	run := s.run(status.Run)
	if !gateIsDue(s.canary) || run == nil ||
		run.Spec.Kind == v1alpha1.RunReturn || s.canary.Spec.Suspend || s.canary.Spec.SkipAnalysis {
		return nil
	}
	if status.Weight == 0 && onlyMirrors(s.canary, currentStep(s.canary)) {
		return &GateLook{Judgement: analysis.Judgement{Verdict: analysis.VerdictPass, Reason: "only copies reach the canary, which count for no gate"}}
	}
	config, err := GateOf(s.canary.Spec)
	if err != nil {
		return &GateLook{Unavailable: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	if g.watchman != nil {
		config = shared(config)
		if look := g.watchman.look(ctx, s, run, config, now); look != nil {
			return look
		}
	}
	return g.judge(ctx, s, run, config, now)
}

// judge by the metrics of the Canary's source.
func (g *gateway) judge(ctx context.Context, s *scene, run *v1alpha1.CanaryRun, config analysis.Config, now time.Time) *GateLook {
	source, err := g.source(s.canary)
	if err != nil {
		return &GateLook{Unavailable: err.Error()}
	}
	since := evidenceSince(s.canary, run)
	s.evidence, err = g.memory.recall(client.ObjectKeyFromObject(s.canary), run, config, since)
	if err != nil {
		return &GateLook{Unavailable: err.Error()}
	}
	gate := s.evidence.gate
	query := gate.Query(analysis.Query{
		Namespace: s.canary.Namespace, Workload: run.Spec.TargetRef.Name,
		CanaryHash: run.Spec.Candidate.PodTemplateHash, StableHash: run.Spec.Stable.PodTemplateHash,
		Since: since, Now: now, Before: rehearsed(s.canary), LatencyLimit: config.Objectives.LatencyLimit,
		Custom: customQueries(s.canary.Spec.Gate.Metrics),
	})
	rounds, unread := source.Rounds(ctx, query)
	if unread != nil && len(rounds) == 0 {
		return &GateLook{Unavailable: unread.Error()}
	}
	enter(gate, stepsOf(s.canary, run, gate.Entered()))
	unsampled := sample(ctx, source, gate, s.canary.Spec.Gate.Metrics, query)
	judging := gate
	if unread != nil { // The rounds lack counters of the Canary's own: they are folded for good when those can be read.
		if judging, err = analysis.Resume(config, gate.State()); err != nil {
			return &GateLook{Unavailable: unread.Error()}
		}
	}
	for _, round := range rounds {
		judging.Add(round)
	}
	if unread == nil {
		unread = unsampled
	}
	look := &GateLook{Judgement: judging.Judge(now)}
	if unread != nil && !proven(look.Judgement) {
		return &GateLook{Unavailable: unread.Error()}
	}
	if explainer, ok := source.(explainer); ok {
		look.Queries = explainer.Queries(query, numberQueries(s.canary.Spec.Gate.Metrics, query)...)
	}
	return look
}

// proven: what is known fails the canary, whatever else there is to know. That nothing was found out in
// time is no proof while something could not be read.
func proven(judgement analysis.Judgement) bool {
	return judgement.Verdict == analysis.VerdictFail && judgement.Cause != analysis.CauseInconclusive
}

// evidenceSince is from when on requests count.
func evidenceSince(canary *v1alpha1.Canary, run *v1alpha1.CanaryRun) time.Time {
	if since := canary.Status.EvidenceSince; since != nil && since.After(run.CreationTimestamp.Time) {
		return since.Time
	}
	return run.CreationTimestamp.Time
}

// rehearsed is how long before the evidence begins stable is read as well. Where it begins anew, stable's
// pods were ended and begun before, which says nothing about how they usually differ.
func rehearsed(canary *v1alpha1.Canary) time.Duration {
	if canary.Status.EvidenceSince != nil {
		return 0
	}
	return rehearsal
}

// gateIsDue: a step is held, or the canary keeps the weight that it has while pods or proxies are waited
// for.
func gateIsDue(canary *v1alpha1.Canary) bool {
	switch canary.Status.Phase {
	case v1alpha1.PhaseHolding, v1alpha1.PhaseAwaitingApproval:
		return true
	case v1alpha1.PhaseScaling, v1alpha1.PhaseShifting:
		return canary.Status.Weight > 0 && canary.Status.StepStartedAt != nil
	}
	return false
}

func currentStep(canary *v1alpha1.Canary) v1alpha1.Step {
	if steps, i := canary.Spec.Steps, int(canary.Status.Step); i >= 0 && i < len(steps) {
		return steps[i]
	}
	return v1alpha1.Step{Weight: canary.Status.Weight}
}

// explainer is a source that can say in its own language what it asks, for the record.
type explainer interface {
	Queries(query analysis.Query, numbers ...analysis.NumberQuery) []string
}

// enter the steps that a gate was not told of yet, and the current one again.
func enter(gate *analysis.Gate, steps []analysis.Step) {
	for i, step := range steps {
		if i+1 == len(steps) || step.StartedAt.After(gate.Entered().StartedAt) {
			gate.Enter(step)
		}
	}
}

// stepsOf are the steps of the run so far. The record knows when each one's weight was acknowledged;
// the current one's time in the status was moved by what stopped its clock, and the gate takes the
// time without data off by itself. A step that the record does not have began when the gate was told.
func stepsOf(canary *v1alpha1.Canary, run *v1alpha1.CanaryRun, entered analysis.Step) []analysis.Step {
	current, since := stepOf(canary), evidenceSince(canary, run)
	var steps []analysis.Step
	for i, entry := range run.Record.Entries {
		begins := i == 0 || run.Record.Entries[i-1].Phase != v1alpha1.PhaseHolding
		if begins && entry.Phase == v1alpha1.PhaseHolding && !entry.Time.After(current.StartedAt) && !entry.Time.Time.Before(since) {
			steps = append(steps, analysis.Step{StartedAt: inForce(entry.Time), Weight: percent(entry.Weight, entry.TotalWeight), Alone: entry.Weight == 0})
		}
	}
	if n := len(steps); n > 0 && steps[n-1].Weight == current.Weight {
		current.StartedAt, steps = steps[n-1].StartedAt, steps[:n-1]
	} else if entered.Weight == current.Weight && entered.StartedAt.Before(current.StartedAt) && !entered.StartedAt.Before(since) {
		current.StartedAt = entered.StartedAt
	}
	return append(steps, current)
}

// inForce is when a weight is in force for certain: times are stored in whole seconds, and a round
// that ended in the same second may have begun before.
func inForce(at metav1.Time) time.Time {
	return at.Truncate(time.Second).Add(time.Second)
}

// stepOf is the current step as the gate wants it.
func stepOf(canary *v1alpha1.Canary) analysis.Step {
	steps, next := canary.Spec.Steps, int(canary.Status.Step)+1
	total := canary.Status.TotalWeight
	// Requests that were chosen by what they are come from other people than stable's.
	step := analysis.Step{Weight: percent(canary.Status.Weight, total), NextWeight: 100, Alone: canary.Status.Weight == 0}
	if canary.Status.StepStartedAt != nil {
		step.StartedAt = inForce(*canary.Status.StepStartedAt)
	}
	step.Hold = currentStep(canary).Hold.Duration
	if next >= 0 && next < len(steps) {
		step.NextWeight = percent(steps[next].Weight, total)
	}
	return step
}

// GateOf reads the gate's numbers; what a spec does not say has the analysis' defaults.
func GateOf(spec v1alpha1.CanarySpec) (analysis.Config, error) {
	config := analysis.Defaults()
	config.Steps = max(1, len(spec.Steps))
	if gate := spec.Gate; gate.SuccessRate != nil {
		text := strings.TrimSpace(gate.SuccessRate.String())
		rate, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return config, fmt.Errorf("spec.gate.successRate: %q is not a percentage; write 99 or \"99.9\"", text)
		}
		config.Objectives.SuccessRate = rate
	}
	if latency := spec.Gate.Latency; latency != nil && latency.P99.Duration > 0 {
		config.Objectives.LatencyLimit = latency.P99.Duration
	}
	err := customOf(&config, spec.Gate.Metrics)
	return config, err
}
