// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"hash/maphash"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// maxRounds is far more than any calm cluster needs: a whole run takes about thirty.
const maxRounds = 120

// calm is what the cluster does by itself in one round when nothing goes wrong and the gate passes.
// It is false when the abstract cluster has no room.
func (s *search) calm(state *State) (fits bool, failed *failure) {
	if !state.Canary.Gone {
		before := *state
		canary, seen, decision := s.plan(state, look{verdict: analysis.VerdictPass})
		made := &step{state: &before, canary: canary, seen: seen, look: look{verdict: analysis.VerdictPass}, decision: decision}
		if failed := made.check(); failed != nil {
			return true, failed
		}
		hands := s.newHands(state)
		hands.all(state, &attempt{step: made}, 0, touched{})
		if hands.full {
			return false, nil
		}
	}
	if !state.syncDeployment() {
		return false, nil
	}
	for i := range state.Sets {
		state.syncSet(i)
		state.Sets[i].Ready = state.Sets[i].Pods
	}
	state.Split.Acknowledged = state.Split.Exists
	state.Split.Open = false
	state.passTime()
	state.normal()
	return true, nil
}

// comesToRest follows a state through calm rounds until nothing changes any more, and judges what it
// has come to.
func (s *search) comesToRest(from *State) *failure {
	var way []uint64
	var path []State
	state := *from
	for range maxRounds {
		mark := maphash.Comparable(s.seed, state)
		if s.rested[mark] {
			break
		}
		way = append(way, mark)
		before := state
		fits, failed := s.calm(&state)
		if !fits {
			s.result.CutOff++
			break
		}
		path = append(path, state)
		if failed == nil && before == state {
			failed = s.atRest(&state)
			if failed == nil {
				break
			}
		}
		if failed != nil {
			failed.path = path
			return failed
		}
		if len(way) == maxRounds {
			return &failure{invariant: "a calm cluster comes to rest", why: fmt.Sprintf("not after %d rounds", maxRounds), path: path}
		}
	}
	for _, mark := range way {
		s.rested[mark] = true
	}
	return nil
}

// atRest judges a state in which nothing moves any more.
func (s *search) atRest(state *State) *failure { //nolint:gocyclo // one reason to rest after the other
	wrong := func(format string, arguments ...any) *failure {
		return &failure{invariant: "a cluster at rest runs what is asked for", why: fmt.Sprintf(format, arguments...)}
	}
	d, c := &state.Deployment, &state.Canary
	if state.stuck() {
		return nil
	}
	if c.Gone {
		return s.restsWithout(state, wrong)
	}
	_, _, decision := s.plan(state, look{verdict: analysis.VerdictPass})
	reason := decision.Standing.Reason
	switch {
	case len(decision.Effects) > 0:
		return wrong("the same effects are repeated for ever: %s", effectText(decision.Effects[0]))
	case reason == v1alpha1.ReasonSuspended && c.Suspended:
		return nil
	case reason == v1alpha1.ReasonTargetNotFound && !d.Exists:
		return nil
	case c.Deleting:
		return wrong("a Canary that is deleted stays in phase %s: %s", c.phase(), decision.Standing.Message)
	case reason == v1alpha1.ReasonRestartHeld && restartNames()[c.Restart] == v1alpha1.RestartAsk && !c.Promoted:
		return nil
	case reason == v1alpha1.ReasonScaledToZero && d.Replicas == 0, reason == v1alpha1.ReasonPausedByPerson && d.Paused && d.Hold == notHeld:
		return nil
	case decision.Standing.Reconciling:
		return wrong("phase %s waits for ever: %s: %s", c.phase(), reason, decision.Standing.Message)
	case c.phase() == v1alpha1.PhaseRejected:
		return restsRejected(state, wrong)
	case c.phase() != v1alpha1.PhaseStable:
		return wrong("it stands still in phase %s: %s", c.phase(), decision.Standing.Message)
	}
	return restsStable(state, wrong)
}

// stuck: the Deployment controller does not move on by itself. It sees a scaling event as long as an
// active set's annotation differs from the Deployment's replicas, and when the only active set has the
// right size already, it leaves the annotation as it is.
func (s *State) stuck() bool {
	if !s.Deployment.Exists || s.Deployment.Paused {
		return false
	}
	pass := &controllerPass{State: s}
	pass.sort()
	return pass.scalingEvent()
}

func (c *canary) phase() v1alpha1.Phase { return phaseNames()[c.Phase] }

type wrongly func(format string, arguments ...any) *failure

func restsStable(state *State, wrong wrongly) *failure {
	d := &state.Deployment
	switch {
	case state.Split.Exists:
		return wrong("a split is left")
	case d.Hold != notHeld:
		return wrong("a hold is left")
	}
	return serves(state, wrong, func(one set) bool { return one.Owned && one.Template.release() == d.Template.release() })
}

func restsRejected(state *State, wrong wrongly) *failure {
	switch d := &state.Deployment; {
	case !d.Paused || d.Hold == notHeld:
		return wrong("a rejected template is not held")
	case state.Split.Exists:
		return wrong("a split is left")
	case state.Canary.Run == goneRun && state.find(state.Canary.Stable) < 0:
		return nil // set and record deleted: there is nothing left to make stable from
	}
	return serves(state, wrong, func(one set) bool { return one.Owned && one.Name == state.Canary.Stable })
}

func (s *search) restsWithout(state *State, wrong wrongly) *failure {
	d := &state.Deployment
	switch {
	case !d.Exists:
		return nil
	case d.Hold != notHeld || d.Marked:
		return wrong("labels are left on the Deployment of a Canary that is gone")
	case state.Split.Exists:
		return wrong("a split is left by a Canary that is gone")
	}
	for _, one := range state.Sets {
		if one.Exists && !one.Owned {
			return wrong("ReplicaSet %s is left released by a Canary that is gone", one.Name)
		}
	}
	if d.Paused {
		return nil // by a person, or at a rejected template
	}
	return serves(state, wrong, func(one set) bool { return one.Template.release() == d.Template.release() })
}

// serves: one set has all the pods, and it is the right one.
func serves(state *State, wrong wrongly, right func(set) bool) *failure {
	for _, one := range state.Sets {
		switch {
		case !one.Exists || one.Pods == 0 && one.Replicas == 0:
		case !right(one):
			return wrong("ReplicaSet %s still has pods", one.Name)
		case one.Ready != state.Deployment.Replicas:
			return wrong("ReplicaSet %s has %d ready pods of %d", one.Name, one.Ready, state.Deployment.Replicas)
		default:
			return nil
		}
	}
	if state.Deployment.Replicas > 0 {
		return wrong("nothing serves")
	}
	return nil
}
