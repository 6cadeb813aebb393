// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// asked says whether people ask something of the current run. A request that names another run is
// void: it was made for what was there then.
func (p *planner) asked(annotation string) bool {
	return p.status.Run != "" && p.canary.Annotations[annotation] == p.status.Run
}

// Actions as the record of a run names them.
const (
	actionAbort   = "abort"
	actionPromote = "promote"
	actionPause   = "pause"
	actionResume  = "resume"
	actionRetry   = "retry"
)

// requested puts into the last entry of the record what was asked and who wrote it.
func (p *planner) requested(action, annotation string) {
	if last := len(p.record.Entries) - 1; last >= 0 {
		p.record.Entries[last].Request = &v1alpha1.RunRequest{Action: action, By: p.writerOf(annotation)}
	}
}

// writerOf is the field manager that wrote an annotation. It is all that the API server keeps of who
// it was; its audit log has the rest.
func (p *planner) writerOf(annotation string) string {
	for _, entry := range p.canary.ManagedFields {
		if entry.FieldsV1 != nil && strings.Contains(entry.FieldsV1.GetRawString(), `"f:`+annotation+`"`) {
			return entry.Manager
		}
	}
	return ""
}

// takesBack: the traffic of this run is to be taken back, even while the Canary is suspended.
func (p *planner) takesBack() bool {
	switch p.status.Phase {
	case v1alpha1.PhaseStable, v1alpha1.PhaseRejected:
		return false
	}
	return p.asked(v1alpha1.AnnotationAbort) || p.evacuated()
}

// abort takes the traffic back and rejects the template.
func (p *planner) abort() {
	p.rollBack(v1alpha1.OutcomeRolledBack, "aborted: people asked for it by the annotation "+v1alpha1.AnnotationAbort)
	p.requested(actionAbort, v1alpha1.AnnotationAbort)
}

// hurried: people asked that this run be promoted without its gates. Nobody hurries a way back.
func (p *planner) hurried() bool {
	return p.asked(v1alpha1.AnnotationPromote) && !p.returning()
}

// hurry goes to the last step at once, or to the first for which people's word is missing.
func (p *planner) hurry() bool {
	if !p.hurried() || p.rising() != nil {
		return false
	}
	step := p.hurriesTo()
	if p.status.Step >= step {
		return false
	}
	for passed := p.status.Step; passed < step; passed++ {
		p.noteApprovals(passed)
	}
	p.status.Step = step
	p.enter(v1alpha1.PhaseScaling, fmt.Sprintf("people asked for promotion: going on at weight %s", p.weightText(p.weight())))
	p.requested(actionPromote, v1alpha1.AnnotationPromote)
	p.event(false, v1alpha1.ReasonRequested, "people asked for promotion: the gates of the steps that are left are skipped")
	return true
}

// retry lets a rejected template start a new run.
func (p *planner) retry() {
	p.enter(v1alpha1.PhaseStable, "people asked for another try of the rejected template")
	p.requested(actionRetry, v1alpha1.AnnotationRetry)
	p.event(false, v1alpha1.ReasonRequested, fmt.Sprintf("run %s: people asked for another try", p.status.Run))
}

// notePause records that a run was paused or goes on. The record says which was last.
func (p *planner) notePause() {
	paused, noted := p.asked(v1alpha1.AnnotationPause), false
	for _, entry := range p.run.Record.Entries {
		if entry.Request != nil && (entry.Request.Action == actionPause || entry.Request.Action == actionResume) {
			noted = entry.Request.Action == actionPause
		}
	}
	switch {
	case paused && !noted:
		p.note("paused: people asked for it by the annotation " + v1alpha1.AnnotationPause)
		p.requested(actionPause, v1alpha1.AnnotationPause)
		p.event(false, v1alpha1.ReasonPaused, fmt.Sprintf("run %s is paused", p.status.Run))
	case !paused && noted:
		p.note("resumed: the annotation " + v1alpha1.AnnotationPause + " is gone")
		p.requested(actionResume, v1alpha1.AnnotationPause)
		p.event(false, v1alpha1.ReasonRequested, fmt.Sprintf("run %s goes on", p.status.Run))
	}
}

// restartAt is when stable's pods were asked to be younger than; zero when nothing is asked or it was
// handled.
func restartAt(canary *v1alpha1.Canary) (time.Time, error) {
	value := canary.Annotations[v1alpha1.AnnotationRestart]
	if value == "" || value == canary.Status.LastHandledRestartAt {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return time.Time{}, fmt.Errorf("metadata.annotations[%s]: %q is not a time; write one as RFC 3339 does, such as 2026-11-22T10:00:00Z",
			v1alpha1.AnnotationRestart, value)
	}
	return at, nil
}

// restart replaces stable's pods one by one. It works beside a hold, where the Deployment controller
// restarts nothing, and only in phases that may last: never while weights or capacity move.
func (p *planner) restart() {
	at, err := restartAt(p.canary)
	switch {
	case err != nil:
		p.event(true, v1alpha1.ReasonInvalidRequest, err.Error())
		p.status.LastHandledRestartAt = p.canary.Annotations[v1alpha1.AnnotationRestart]
		return
	case at.IsZero() || !restful(p.status.Phase):
		return
	case at.After(p.now):
		p.wakeAt(at)
		return
	}
	stable := p.stableSet()
	if stable == nil || stable.Ready < p.seen.Target.Replicas {
		p.soon()
		return
	}
	if len(p.seen.Outdated) > 0 {
		p.do(EvictPod{Name: p.seen.Outdated[0]})
		p.soon()
		return
	}
	p.status.LastHandledRestartAt = p.canary.Annotations[v1alpha1.AnnotationRestart]
	p.event(false, v1alpha1.ReasonRestarted, fmt.Sprintf("all pods of %s were made after %s", stable.Name, at.UTC().Format(time.RFC3339)))
}

// restful phases may last, and nothing of the run moves in them.
func restful(phase v1alpha1.Phase) bool {
	switch phase {
	case v1alpha1.PhaseStable, v1alpha1.PhaseHeld, v1alpha1.PhaseAwaitingApproval, v1alpha1.PhaseRejected:
		return true
	}
	return false
}
