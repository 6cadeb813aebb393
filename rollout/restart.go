// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// holdsRestarts: a change of nothing but restart annotations is held like any other.
func holdsRestarts(canary *v1alpha1.Canary) bool {
	return canary.Spec.Restart == v1alpha1.RestartCanary || canary.Spec.Restart == v1alpha1.RestartAsk
}

// same says whether two templates are the same to this Canary: a restart is a change of its own only
// where restarts are held.
func (p *planner) same(a, b corev1.PodTemplateSpec) bool {
	if holdsRestarts(p.canary) {
		return sameRevision(a, b)
	}
	return sameRelease(a, b)
}

// onlyRestarts: what the workload asks for is stable with other restart annotations.
func (p *planner) onlyRestarts() bool {
	stable, known := p.stableTemplate()
	return known && sameRelease(p.seen.Target.Template, stable)
}

// speaksOf: what was once said of a template holds for the one that the workload asks for. A word on a
// release holds when that is restarted; among restarts of stable each has a word of its own, or the
// rejection of one would keep stable from ever being restarted.
func (p *planner) speaksOf(template corev1.PodTemplateSpec, known bool) bool {
	target := p.seen.Target.Template
	return known && (sameRevision(template, target) || sameRelease(template, target) && !p.onlyRestarts())
}

// unasked: a restart waits for people's word. It says whether it does.
func (p *planner) unasked() bool {
	if p.canary.Spec.Restart != v1alpha1.RestartAsk || !p.onlyRestarts() || p.returning() || p.asked(v1alpha1.AnnotationPromote) {
		return false
	}
	p.moving(v1alpha1.ReasonRestartHeld, fmt.Sprintf(
		"run %s would only restart the pods, and spec.restart is ask: sluice promote %s lets it, sluice abort %s does not",
		p.status.Run, p.canary.Name, p.canary.Name))
	if left := durationOr(p.canary.Spec.Deadlines.Held, defaultHeldDeadline) - p.since(); left > 0 {
		p.wakeAt(p.now.Add(left))
	}
	return true
}
