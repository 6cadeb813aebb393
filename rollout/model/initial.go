// SPDX-License-Identifier: Apache-2.0

package model

import (
	"slices"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// initialStates are where searches begin: all that may go wrong is counted from there. Those in which
// a template is held begin with a run, so that a disturbance is left for what comes in its midst.
func initialStates(replicas uint8) []State {
	rest := State{
		Deployment: deployment{Exists: true, Complete: true, Replicas: replicas, Revision: 1},
		Canary:     canary{Edited: true, PhaseAge: never, StepAge: never},
	}
	rest.add(serving(0, replicas, 1))
	rolling := rest
	rolling.Deployment.Template, rolling.Deployment.Complete = 2, false
	created := rest
	created.Deployment.Complete, created.Deployment.Revision = false, 0
	created.remove(0)

	held := rest
	held.Canary = canary{Finalizer: true, Phase: phaseOf(v1alpha1.PhaseStable), Stable: byController, StepAge: never}
	held.hold(2)
	returning := held
	returning.Sets = [maxSets]set{serving(0, 0, 1), serving(2, replicas, 2)}
	returning.Deployment.Revision, returning.Canary.Stable, returning.Canary.Run = 2, byController|2, 1
	returning.Runs[0] = run{Exists: true, Stable: byController, Candidate: byController | 2, CandidateRun: 2, Outcome: promoted, Ended: true, Recent: true}
	returning.hold(0)
	rejected := held
	rejected.Canary.Phase, rejected.Canary.Run, rejected.Canary.Canary = phaseOf(v1alpha1.PhaseRejected), 1, 1
	rejected.Runs[0] = run{Exists: true, Stable: byController, Candidate: 1, CandidateRun: 2, Outcome: rolledBack, Ended: true, Recent: true}
	rejected.Deployment.Hold = heldByRun

	all := []State{rest, rolling, created, held, returning, rejected}
	for _, state := range []State{rest, held} {
		state.Deployment.NoHistory = true
		all = append(all, state)
	}
	return all
}

// initialStates are those of the options' Canary: where restarts are held, such a hold is among them,
// and a restart that was rejected.
func (o *Options) initialStates() []State {
	all := initialStates(o.Replicas)
	if o.Restart == "" {
		return all
	}
	restarting, rejected := all[3], all[5]
	restarting.Deployment.Template = 1
	rejected.Deployment.Template, rejected.Runs[0].CandidateRun = 1, 1
	all = append(all, restarting, rejected)
	for i := range all {
		all[i].Canary.Restart = uint8(slices.Index(restartNames(), o.Restart))
		all[i].Deployment.RestartsHeld = all[i].Deployment.Marked
	}
	return all
}

// serving is a set as the Deployment controller leaves it.
func serving(t template, replicas, revision uint8) set {
	return set{
		Exists: true, Owned: true, Name: byController + name(t), Template: t,
		Replicas: replicas, Pods: replicas, Ready: replicas, Revision: revision, Desired: replicas,
	}
}

// hold is a commit that admission has held.
func (s *State) hold(t template) {
	d := &s.Deployment
	d.Marked, d.Paused, d.Complete, d.Hold, d.Template = true, true, false, pending, t
}

func phaseOf(phase v1alpha1.Phase) uint8 { return uint8(slices.Index(phaseNames(), phase)) }
