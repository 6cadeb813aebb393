// SPDX-License-Identifier: Apache-2.0

package model

// Bounds of the abstract cluster. What would not fit is counted as cut off, never dropped silently.
const (
	maxReplicas = 3
	surge       = 1
	maxSets     = 5
	maxRuns     = 4
	releases    = 3
)

// State is everything there is. All of it is small and comparable; slot order of Sets is the order of
// their creation, Runs are newest first.
type State struct {
	Deployment deployment
	Canary     canary
	Sets       [maxSets]set
	Runs       [maxRuns]run
	Split      split
	// Passed is the highest weight at which the gate of the current run has passed: a ghost, which
	// only invariants read.
	Passed uint8
}

// template is a release and, in the lowest bit, whether a restart was asked for since.
type template uint8

func (t template) release() uint8 { return uint8(t >> 1) }

// same: one template, or one release to a Canary that leaves restarts to the Deployment.
func (s *State) same(a, b template) bool {
	return a == b || s.Canary.Restart == 0 && a.release() == b.release()
}

// name stands for the name of a ReplicaSet and for its hash. The Deployment controller's names follow
// from the template: what it makes again after a deletion is called as before.
type name uint8

const (
	nobody name = 0
	// byController | template: as the Deployment controller names its sets.
	byController name = 0x40
)

func (n name) fresh() bool { return n != nobody && n < byController }

// unannotated: a set without the annotation desired-replicas.
const unannotated = 0xf

type set struct {
	Exists, Owned bool
	Name          name
	Template      template
	// Replicas wanted, Pods that its status counts, of them Ready.
	Replicas, Pods, Ready uint8
	// Revision is a rank, 0 for none.
	Revision uint8
	// Desired is the annotation desired-replicas; max-replicas is always surge more.
	Desired uint8
}

// holder is the value of the hold label: nobody's, admission's, or a run's.
type holder uint8

const (
	notHeld holder = iota
	pending
	heldByRun  // + index into Runs
	heldByGone = heldByRun + maxRuns
)

type deployment struct {
	Exists, Paused, Marked, Unmanaged bool
	// Complete as the status says, which the Deployment controller writes.
	Complete bool
	Template template
	Replicas uint8
	Hold     holder
	Revision uint8
	// Counted are the pods in the status, which the Deployment controller goes by when a set lacks its
	// annotation.
	Counted uint8
	// RestartsHeld: the label is on with which admission holds restarts, too.
	RestartsHeld bool
	// NoHistory: revisionHistoryLimit is 0.
	NoHistory bool
}

// age is how long something has lasted, told apart by the deadlines there are.
type age uint8

const (
	young age = iota
	drainOver
	progressOver
	never age = 0xf
)

// runIndex refers to a run: its index in Runs plus one, or one whose record is gone.
type runIndex uint8

const (
	noRun   runIndex = 0
	goneRun runIndex = maxRuns + 1
)

type canary struct {
	Gone, Deleting, Finalizer bool
	// Suspended is the spec, StoodSuspended the condition that was written last.
	Suspended, StoodSuspended bool
	// Aborted: people asked for the abort of the current run.
	Aborted bool
	// Promoted: people asked for the promotion of the current run.
	Promoted bool
	// Restart is an index into restartNames.
	Restart uint8
	// Edited: the generation is not the observed one.
	Edited bool
	// Steps is an index into stepLists.
	Steps        uint8
	Phase        uint8
	Step         int8
	Weight       uint8
	Stable       name
	Canary       name
	Run          runIndex
	PhaseAge     age
	StepAge      age
	VerdictFresh bool
	// Size and Ready are how many canary pods were wanted and ready at the last look.
	Size, Ready uint8
	// Short: a deadline has passed while the canary had too few ready pods, and no look has found
	// enough or asked for more since. It is a ghost, which only invariants read.
	Short bool
}

type outcome uint8

const (
	underWay outcome = iota
	promoted
	rolledBack
	cancelled
)

type run struct {
	Exists, Return          bool
	Stable, Candidate       name
	StableRun, CandidateRun template
	Outcome                 outcome
	Ended, Recent           bool
}

type split struct {
	Exists         bool
	Stable, Canary name
	Weight         uint8
	Acknowledged   bool
	// Open: the revision that has no weight still has requests.
	Open bool
}

// find returns the slot of the set with a name, or -1.
func (s *State) find(n name) int {
	for i := range s.Sets {
		if s.Sets[i].Exists && s.Sets[i].Name == n && n != nobody {
			return i
		}
	}
	return -1
}

// add appends a set; false says that there is no room.
func (s *State) add(added set) bool {
	for i := range s.Sets {
		if !s.Sets[i].Exists {
			added.Exists = true
			s.Sets[i] = added
			return true
		}
	}
	return false
}

// remove takes the set out of its slot and closes the gap.
func (s *State) remove(slot int) {
	copy(s.Sets[slot:], s.Sets[slot+1:])
	s.Sets[maxSets-1] = set{}
}

// freshName is one that is nobody's yet. Normal form keeps the numbers small.
func (s *State) freshName() name {
	highest := nobody
	s.names(func(n *name) {
		if n.fresh() {
			highest = max(highest, *n)
		}
	})
	return highest + 1
}

// names visits every name in the state, sets first.
func (s *State) names(visit func(*name)) {
	for i := range s.Sets {
		visit(&s.Sets[i].Name)
	}
	visit(&s.Canary.Stable)
	visit(&s.Canary.Canary)
	visit(&s.Split.Stable)
	visit(&s.Split.Canary)
	for i := range s.Runs {
		visit(&s.Runs[i].Stable)
		visit(&s.Runs[i].Candidate)
	}
}

// templates visits every template in the state, the Deployment's first.
func (s *State) templates(visit func(*template)) {
	if s.Deployment.Exists {
		visit(&s.Deployment.Template)
	}
	for i := range s.Sets {
		if s.Sets[i].Exists {
			visit(&s.Sets[i].Template)
		}
	}
	for i := range s.Runs {
		if s.Runs[i].Exists {
			visit(&s.Runs[i].CandidateRun)
			visit(&s.Runs[i].StableRun)
		}
	}
	s.names(func(n *name) {
		if *n >= byController {
			t := template(*n - byController)
			visit(&t)
			*n = byController + name(t)
		}
	})
}
