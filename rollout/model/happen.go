// SPDX-License-Identifier: Apache-2.0

package model

import "fmt"

// kind is something that happens to the cluster without the rollout controller.
type kind uint8

const (
	// What the cluster does by itself.
	controllerSyncs kind = iota
	setSyncs
	podReady
	proxiesAcknowledge
	workEnds
	timePasses
	// What costs a disturbance.
	podLost
	podsLost
	push
	restart
	scaleTo
	unpause
	breakGlass
	pause
	manage
	unhold
	deleteSet
	deleteDeployment
	createDeployment
	replaceDeployment
	deleteCanary
	editSteps
	suspend
	abort
	promote
	editRestart
	deleteSplit
	deleteRecord
	windowPasses
)

// happening is one such thing; arg is a slot, a release, a number of replicas or a list of steps.
type happening struct {
	kind kind
	arg  uint8
}

// cost is 0 for what the cluster does by itself.
func (h happening) cost() int {
	if h.kind < podLost {
		return 0
	}
	return 1
}

func (h happening) describe(s *State) string { //nolint:gocyclo,funlen // one line for each thing that can happen
	slot := func() string { return s.Sets[h.arg].Name.String() }
	switch h.kind {
	case controllerSyncs:
		return "the Deployment controller syncs"
	case setSyncs:
		return "the ReplicaSet controller makes and removes pods of " + slot()
	case podReady:
		return "a pod of " + slot() + " becomes ready"
	case proxiesAcknowledge:
		return "all proxies acknowledge the split"
	case workEnds:
		return "the open requests end"
	case timePasses:
		return "time passes a deadline"
	case podLost:
		return "a pod of " + slot() + " is lost"
	case podsLost:
		return "all pods of " + slot() + " are lost"
	case push:
		return "Git: template " + template(h.arg<<1).String()
	case restart:
		return "kubectl rollout restart"
	case scaleTo:
		return fmt.Sprintf("the autoscaler sets %d replicas", h.arg)
	case unpause:
		return "a person unpauses the Deployment"
	case breakGlass:
		return "a person unpauses the Deployment with the break-glass label"
	case pause:
		return "a person pauses the Deployment"
	case manage:
		return "a person takes the break-glass label off"
	case unhold:
		return "a person takes the hold label off"
	case deleteSet:
		return "a person deletes ReplicaSet " + slot()
	case deleteDeployment:
		return "a person deletes the Deployment"
	case createDeployment:
		return "a Deployment is created with template " + template(h.arg<<1).String()
	case replaceDeployment:
		return "the Deployment is deleted and created with template " + template(h.arg<<1).String()
	case deleteCanary:
		return "a person deletes the Canary"
	case editSteps:
		return fmt.Sprintf("Git: steps %v", stepLists()[h.arg])
	case suspend:
		return fmt.Sprintf("Git: suspend: %v", !s.Canary.Suspended)
	case abort:
		return "a person asks for the abort of the run"
	case promote:
		return "a person asks for the promotion of the run"
	case editRestart:
		return "Git: restart: " + string(restartNames()[h.arg])
	case deleteSplit:
		return "a person deletes the TrafficSplit"
	case deleteRecord:
		return "a person deletes the record " + s.runName(runIndex(h.arg)+1)
	case windowPasses:
		return "the window for returns passes"
	}
	return "?"
}

// happenings are those that can happen in a state. Some change nothing; the search drops them.
func (s *State) happenings() []happening {
	found := []happening{{kind: controllerSyncs}, {kind: proxiesAcknowledge}, {kind: workEnds}, {kind: timePasses}, {kind: windowPasses}}
	for i := range s.Sets {
		if s.Sets[i].Exists {
			for _, k := range []kind{setSyncs, podReady, podLost, podsLost, deleteSet} {
				found = append(found, happening{k, uint8(i)})
			}
		}
	}
	for r := range uint8(releases) {
		if !s.meaningful(r) {
			continue
		}
		if s.Deployment.Exists {
			found = append(found, happening{push, r}, happening{replaceDeployment, r})
		} else {
			found = append(found, happening{createDeployment, r})
		}
	}
	if s.Deployment.Exists {
		for _, k := range []kind{restart, unpause, breakGlass, pause, manage, unhold, deleteDeployment} {
			found = append(found, happening{kind: k})
		}
		for n := range uint8(maxReplicas + 1) {
			found = append(found, happening{scaleTo, n})
		}
	}
	if !s.Canary.Gone {
		found = append(found, happening{kind: deleteCanary}, happening{kind: suspend}, happening{kind: abort}, happening{kind: promote})
		for list := range stepLists() {
			found = append(found, happening{editSteps, uint8(list)})
		}
		for i := range restartNames() {
			found = append(found, happening{editRestart, uint8(i)})
		}
	}
	for i := range s.Runs {
		if s.Runs[i].Exists {
			found = append(found, happening{deleteRecord, uint8(i)})
		}
	}
	return append(found, happening{kind: deleteSplit})
}

// meaningful releases are those that are remembered, and one that is not.
func (s *State) meaningful(r uint8) bool {
	known := false
	s.templates(func(t *template) { known = known || t.release() == r })
	spare, some := s.spare()
	return known || some && spare == r
}

// happen changes a state, which is then no longer in normal form. It is false when the abstract
// cluster has no room for what would be.
func (s *State) happen(h happening) bool {
	switch {
	case h.kind == controllerSyncs:
		return s.syncDeployment()
	case h.kind <= timePasses:
		s.byItself(h)
	case h.kind <= unhold:
		s.toDeployment(h)
	default:
		s.byPeople(h)
	}
	return true
}

func (s *State) byItself(h happening) {
	switch h.kind {
	case setSyncs:
		s.syncSet(int(h.arg))
	case podReady:
		if one := &s.Sets[h.arg]; one.Ready < one.Pods {
			one.Ready++
		}
	case proxiesAcknowledge:
		s.Split.Acknowledged = s.Split.Exists
	case workEnds:
		if s.Split.Acknowledged {
			s.Split.Open = false
		}
	case timePasses:
		s.passTime()
	}
}

// passTime goes past the next deadline of the phase and of the step.
func (s *State) passTime() {
	c := &s.Canary
	c.Short = c.Short || s.short() || c.Ready < c.Size
	switch c.PhaseAge {
	case young:
		c.PhaseAge = drainOver
		if phaseNames()[c.Phase] == "Scaling" {
			c.PhaseAge = progressOver
		}
	case drainOver:
		c.PhaseAge = progressOver
	}
	if c.StepAge == young {
		c.StepAge = drainOver
		c.VerdictFresh = false
	}
}

// toDeployment is what people, Git and autoscalers write on the Deployment, under the admission rule.
func (s *State) toDeployment(h happening) {
	d := &s.Deployment
	before := *d
	switch h.kind {
	case podLost:
		s.Sets[h.arg].Ready -= min(1, s.Sets[h.arg].Ready)
	case podsLost:
		s.Sets[h.arg].Ready = 0
	case push:
		d.Template = template(h.arg << 1)
		d.admit(before.Template)
	case restart:
		d.Template |= 1
		d.admit(before.Template)
	case scaleTo:
		d.Replicas = h.arg
	case unpause:
		d.Paused = false
	case breakGlass:
		d.Paused, d.Unmanaged = false, true
	case pause:
		d.Paused = true
	case manage:
		d.Unmanaged = false
	case unhold:
		d.Hold = notHeld
	}
	if before.Template != d.Template || before.Replicas != d.Replicas || before.Paused != d.Paused {
		d.Complete = false
	}
}

// admit is the admission rule.
func (d *deployment) admit(before template) {
	changes := d.Template.release() != before.release() || d.RestartsHeld && d.Template != before
	if !changes || !d.Marked || d.Unmanaged {
		return
	}
	d.Paused = true
	if d.Hold == notHeld {
		d.Hold = pending
	}
}

func (s *State) byPeople(h happening) {
	c := &s.Canary
	switch h.kind {
	case deleteSet:
		s.remove(int(h.arg))
	case deleteDeployment:
		s.dropDeployment()
	case createDeployment, replaceDeployment:
		history, replicas := s.Deployment.NoHistory, s.Deployment.Replicas
		s.dropDeployment()
		s.Deployment = deployment{Exists: true, Template: template(h.arg << 1), Replicas: max(1, replicas), NoHistory: history}
	case deleteCanary:
		c.Deleting = true
		c.Gone = !c.Finalizer
	case editSteps:
		if c.Steps != h.arg {
			c.Steps, c.Edited = h.arg, true
		}
	case suspend:
		c.Suspended, c.Edited = !c.Suspended, true
	case abort:
		c.Aborted = c.Run != noRun
	case promote:
		c.Promoted = c.Run != noRun
	case editRestart:
		c.Restart, c.Edited = h.arg, true
	case deleteSplit:
		s.Split = split{}
	case deleteRecord:
		s.dropRecord(int(h.arg))
	case windowPasses:
		for i := range s.Runs {
			s.Runs[i].Recent = false
		}
	}
}

// dropDeployment deletes it; garbage collection takes what refers to it.
func (s *State) dropDeployment() {
	s.Deployment = deployment{NoHistory: s.Deployment.NoHistory}
	s.Sets = [maxSets]set{}
	s.Split = split{}
}

func (s *State) dropRecord(at int) {
	var moved [maxRuns]int
	for i := range moved {
		switch {
		case i < at:
			moved[i] = i
		case i == at:
			moved[i] = -1
		default:
			moved[i] = i - 1
		}
	}
	copy(s.Runs[at:], s.Runs[at+1:])
	s.Runs[maxRuns-1] = run{}
	s.renumberRuns(moved)
}
