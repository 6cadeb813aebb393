// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"encoding/json"
	"time"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

const (
	// defaultHistory is how many ended runs are kept of a Canary that was written without defaults.
	defaultHistory = 20
	// maxHistoryBytes is how much the records of one Canary may take together.
	maxHistoryBytes = 2 << 20
)

// prune removes the oldest records beyond the history's limits, while nothing else is to be done.
// What a decision may still rest on stays: the current run, a rejection of the template that the
// workload has, what may be returned to within the rollback window.
func (p *planner) prune() {
	limit, age := int32(defaultHistory), time.Duration(0)
	if history := p.canary.Spec.History; history != nil {
		limit, age = orDefault(history.Limit, limit), history.MaxAge.Duration
	}
	room := maxHistoryBytes
	for i := range p.seen.Runs {
		run := &p.seen.Runs[i]
		room -= recordSize(run)
		over := int32(i) >= limit || room < 0 || age > 0 && run.Record.EndedAt != nil && p.now.Sub(run.Record.EndedAt.Time) > age
		if over && run.Record.EndedAt != nil && !p.needs(run) {
			p.do(DeleteRun{Name: run.Name})
		}
	}
}

// needs says whether a run that ended may still decide something.
func (p *planner) needs(run *v1alpha1.CanaryRun) bool {
	switch {
	case run.Name == p.status.Run:
		return true
	case run.Record.Outcome == v1alpha1.OutcomePromoted:
		return p.withinWindow(run.Record.EndedAt)
	case run.Record.Outcome == v1alpha1.OutcomeRolledBack:
		return p.seen.Target != nil && recordedSame(run.Spec.Candidate, p.seen.Target.Template)
	}
	return false
}

func recordSize(run *v1alpha1.CanaryRun) int {
	raw, err := json.Marshal(run)
	if err != nil {
		return 0
	}
	return len(raw)
}
