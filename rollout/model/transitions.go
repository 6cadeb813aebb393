// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"regexp"
	"slices"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
)

// Transition is a change of phase that a plan made: from where, because of what, to where, and what
// the Canary's Ready condition says then. Names and numbers in the cause are replaced by an ellipsis.
type Transition struct {
	From    v1alpha1.Phase `json:"from"`
	To      v1alpha1.Phase `json:"to"`
	Because string         `json:"because"`
	Reason  string         `json:"reason"`
}

// transition notes a change of phase.
func (s *search) transition(made *step) {
	from, to := made.canary.Status.Phase, made.decision.Status.Phase
	if from == "" {
		from = v1alpha1.PhaseStable
	}
	if from == to {
		return
	}
	s.result.transitions[Transition{From: from, To: to, Because: s.general.ReplaceAllString(cause(made), "…"), Reason: made.decision.Standing.Reason}] = true
}

// cause is the last entry of the run's record.
func cause(made *step) string {
	message := made.decision.Standing.Message
	for _, effect := range made.decision.Effects {
		if record, ok := effect.(rollout.RecordRun); ok && len(record.Entries) > 0 {
			message = record.Entries[len(record.Entries)-1].Message
		}
	}
	return message
}

// particular is what differs from one run to another in a cause: names, images, numbers, times.
func particular() (*regexp.Regexp, error) {
	return regexp.Compile(appName + `-[-\w']+|\b(?:set|dc)-[\w']+|\(` + appName + `: .*\)|\(the same images\)|\d+m\d+s|\d+|because$`)
}

// Transitions are those that the search saw, in the order of the phases.
func (r *Result) Transitions() []Transition {
	var list []Transition
	for transition := range r.transitions {
		list = append(list, transition)
	}
	phases := phaseNames()
	slices.SortFunc(list, func(a, b Transition) int {
		return cmp.Or(
			cmp.Compare(slices.Index(phases, a.From), slices.Index(phases, b.From)),
			cmp.Compare(slices.Index(phases, a.To), slices.Index(phases, b.To)),
			cmp.Compare(a.Because, b.Because), cmp.Compare(a.Reason, b.Reason))
	})
	return list
}
