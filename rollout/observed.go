// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/hook"
)

// Observed is what one look at the cluster saw of a Canary's surroundings. It is plain data: plan
// needs nothing else but the Canary and the time.
type Observed struct {
	// NamespaceTerminating: nothing can be created any more, and nothing may hold the namespace up.
	NamespaceTerminating bool
	// Rival is the name of an older Canary with the same target.
	Rival string
	// Target is the Deployment; nil when there is none.
	Target *Target
	// Sets are the ReplicaSets that belong to the target, owned or released.
	Sets []Set
	// Split is the TrafficSplit; nil when there is none.
	Split *Split
	// Runs of this Canary, newest first.
	Runs []v1alpha1.CanaryRun
	// Gate is the look at the metrics; nil when no gate was due.
	Gate *GateLook
	// Hooks are the webhooks' answers in the current run, by question.
	Hooks map[string]hook.Answer
	// Source is where the target's template came from; nil when nobody says so or none was needed.
	Source *v1alpha1.RunSource
	// Dependencies are the Canaries of spec.dependsOn, in its order, and Circle the names of those that
	// wait for each other, if this one does; empty when there is none.
	Dependencies []Dependency
	Circle       []string
	// Policies are the RolloutPolicies that select the namespace, by name, and Slots how the budgets of
	// those that have one stand to this Canary.
	Policies []v1alpha1.RolloutPolicy
	Slots    []Slot
	// PolicyFault is why it is not known whom a policy selects; empty when it is.
	PolicyFault string
	// Approvals are those of the current run, oldest first, and StampedSince is when the admission rule
	// that writes their approvers was made; zero when there is none.
	Approvals    []v1alpha1.Approval
	StampedSince time.Time
	// Outdated are the names of stable's pods that were made before a restart was asked for, oldest
	// first; looked up only while one is asked for.
	Outdated []string
	// Starved says why pods of the canary were not made or not scheduled; empty when they were.
	Starved string
}

// Target is a Deployment.
type Target struct {
	Name       string
	Generation int64
	Deleting   bool
	Template   corev1.PodTemplateSpec
	// Replicas wanted, and how many more than that a rolling update may make.
	Replicas, MaxSurge int32
	Paused             bool
	// Complete: the Deployment controller has finished rolling this generation out.
	Complete bool
	// Recreate: two revisions must never run together.
	Recreate bool
	// ProgressDeadline is how long new pods may take to become ready.
	ProgressDeadline time.Duration
	// Canary and Hold are the values of Sluice's labels; Unmanaged: the break-glass label is on.
	Canary, Hold string
	Unmanaged    bool
	// RestartsHeld: the label is on with which admission holds restarts, too.
	RestartsHeld bool
	// Revision as the Deployment controller counts.
	Revision int64
	// PauseOwner is who applies spec.paused as false again and again, by its name as a field manager;
	// empty when nobody but Sluice does. Each of its syncs would lift a hold.
	PauseOwner string
	// SelectsAll: the selector matches what carries none of the workload's labels, so nothing can
	// be taken out of it.
	SelectsAll bool
}

// Set is a ReplicaSet of the target.
type Set struct {
	Name, Hash string
	Template   corev1.PodTemplateSpec
	// Owned: the Deployment controller owns it and counts it. Else it was released and is Sluice's.
	Owned bool
	// Role is the label of a released set.
	Role string
	// Replicas wanted, Pods that exist, and of them the Ready ones.
	Replicas, Pods, Ready int32
	// Revision in the Deployment's history; 0 when it never was part of it.
	Revision int64
	// Created orders sets of equal template: the Deployment controller takes the oldest.
	Created  time.Time
	Deleting bool
}

// Split is a TrafficSplit.
type Split struct {
	StableHash, CanaryHash string
	// CanaryWeight out of TotalWeight; stable has the rest.
	CanaryWeight, TotalWeight int32
	Routing                   Routing
	// Acknowledged: every proxy that carries the traffic runs this very generation.
	Acknowledged bool
	// Laggards are those that do not, and Carrying counts all.
	Laggards []string
	Carrying int32
	// Open counts requests and connections by pod template hash.
	Open map[string]int64
}

// Dependency is a Canary that another one depends on. Its Phase is empty when it does not exist or
// was not looked at yet.
type Dependency struct {
	Namespace, Name string
	Phase           v1alpha1.Phase
}

// GateLook is what a look at the metrics gave: a judgement, or the reason why nothing is known.
type GateLook struct {
	Judgement analysis.Judgement
	// Queries that were asked, as the source writes them.
	Queries []string
	// Unavailable is why there is no judgement; empty when there is one.
	Unavailable string
}

// set finds a ReplicaSet by name.
func (o *Observed) set(name string) *Set {
	for i := range o.Sets {
		if o.Sets[i].Name == name && name != "" {
			return &o.Sets[i]
		}
	}
	return nil
}

// run finds a CanaryRun by name.
func (o *Observed) run(name string) *v1alpha1.CanaryRun {
	for i := range o.Runs {
		if o.Runs[i].Name == name && name != "" {
			return &o.Runs[i]
		}
	}
	return nil
}

// serving finds the oldest owned set whose template is exactly the target's: the one that the
// Deployment controller takes as new.
func (o *Observed) serving() *Set {
	return oldest(o.Sets, func(set *Set) bool { return set.Owned && sameTemplate(set.Template, o.Target.Template) })
}

// oldest finds the oldest of the sets that are not being deleted and that match.
func oldest(sets []Set, matches func(*Set) bool) *Set {
	var found *Set
	for i := range sets {
		set := &sets[i]
		if set.Deleting || !matches(set) {
			continue
		}
		if found == nil || set.Created.Before(found.Created) || (set.Created.Equal(found.Created) && set.Name < found.Name) {
			found = set
		}
	}
	return found
}
