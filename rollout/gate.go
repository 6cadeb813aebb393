// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// latencyQuantile is what spec.gate.latency.p99 speaks of.
const latencyQuantile = 0.99

// gateway asks the gate. An error of the source is never a failure of the canary: it is reported as
// what is not known.
type gateway struct {
	source  func(*v1alpha1.Canary) (analysis.Source, error)
	timeout time.Duration
}

// look judges the current step. It returns nil when no gate is due.
func (g *gateway) look(ctx context.Context, s *scene, now time.Time) *GateLook {
	status := s.canary.Status
	run := s.run(status.Run)
	if status.Phase != v1alpha1.PhaseHolding || run == nil || run.Spec.Kind == v1alpha1.RunReturn || s.canary.Spec.Suspend {
		return nil
	}
	objectives, err := objectivesOf(s.canary.Spec.Gate)
	if err != nil {
		return &GateLook{Unavailable: err.Error()}
	}
	source, err := g.source(s.canary)
	if err != nil {
		return &GateLook{Unavailable: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	rounds, err := source.Rounds(ctx, analysis.Query{
		Namespace: s.canary.Namespace, Workload: run.Spec.TargetRef.Name,
		CanaryHash: run.Spec.Candidate.PodTemplateHash, StableHash: run.Spec.Stable.PodTemplateHash,
		Since: run.CreationTimestamp.Time, Now: now, LatencyLimit: objectives.LatencyLimit,
	})
	if err != nil {
		return &GateLook{Unavailable: err.Error()}
	}
	return &GateLook{Judgement: analysis.Judge(objectives, stepOf(s.canary), rounds, now)}
}

// stepOf is the current step as the gate wants it.
func stepOf(canary *v1alpha1.Canary) analysis.Step {
	steps, i := canary.Spec.Steps, int(canary.Status.Step)
	total := canary.Status.TotalWeight
	step := analysis.Step{Weight: percent(canary.Status.Weight, total), NextWeight: 100}
	if canary.Status.StepStartedAt != nil {
		step.StartedAt = canary.Status.StepStartedAt.Time
	}
	if i >= 0 && i < len(steps) {
		step.Hold = steps[i].Hold.Duration
	}
	if i+1 >= 0 && i+1 < len(steps) {
		step.NextWeight = percent(steps[i+1].Weight, total)
	}
	return step
}

// objectivesOf reads the gate's numbers.
func objectivesOf(gate v1alpha1.Gate) (analysis.Objectives, error) {
	objectives := analysis.Objectives{SuccessRate: 99, LatencyQuantile: latencyQuantile, LatencyLimit: 500 * time.Millisecond}
	if gate.SuccessRate != nil {
		text := strings.TrimSpace(gate.SuccessRate.String())
		rate, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return objectives, fmt.Errorf("spec.gate.successRate: %q is not a percentage; write 99 or \"99.9\"", text)
		}
		objectives.SuccessRate = rate
	}
	if gate.Latency != nil && gate.Latency.P99.Duration > 0 {
		objectives.LatencyLimit = gate.Latency.P99.Duration
	}
	return objectives, nil
}
