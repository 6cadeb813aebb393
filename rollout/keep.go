// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"slices"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// keepHold keeps what must be true while the hold stands: the Deployment is paused under this run's
// label and owns exactly one ReplicaSet, stable. With a second one, scaling to zero and back would
// start a retired revision or the held one.
func (p *planner) keepHold() {
	p.keepLabels()
	stable := p.stableSet()
	for i := range p.seen.Sets {
		set := &p.seen.Sets[i]
		if set.Owned && !set.Deleting && set != stable {
			p.do(ReleaseSet{Name: set.Name, Role: p.roleOf(set)})
		}
	}
	switch {
	case stable != nil && (stable.Owned || stable.Deleting):
	case stable != nil:
		p.do(GiveBackSet{Name: stable.Name})
	case p.seen.Target.Replicas > 0:
		// With no replicas there is nothing to serve, and the Deployment controller may be deleting
		// the set for its history limit: making it again would only start a quarrel.
		p.remakeStable()
	}
}

// keepLabels keeps the Deployment labelled and paused by this run.
func (p *planner) keepLabels() {
	if t := p.seen.Target; !p.marked() || t.Hold != p.status.Run {
		p.do(MarkTarget{Hold: p.status.Run})
	}
}

// remakeStable makes stable's set again from the run's record, at full size: an empty one could be
// deleted in the same pass in which the Deployment controller scales it.
func (p *planner) remakeStable() {
	template, ok := p.stableTemplate()
	if !ok {
		return
	}
	p.do(CreateSet{
		Name: p.status.Stable.ReplicaSet, Hash: p.status.Stable.PodTemplateHash, Template: template,
		Replicas: p.seen.Target.Replicas, Owned: true, Revision: p.seen.Target.Revision,
	})
}

func (p *planner) roleOf(set *Set) string {
	switch {
	case p.status.Canary != nil && set.Name == p.status.Canary.ReplicaSet:
		return v1alpha1.RevisionCanary
	case p.status.Stable != nil && set.Name == p.status.Stable.ReplicaSet:
		return v1alpha1.RevisionStable
	}
	return v1alpha1.RevisionHistory
}

// shield takes the traffic off pods that an unheld rollout has made, as soon as stable can carry all of it:
// the run may have to wait for long, and nobody has asked for them. It says whether it does.
func (p *planner) shield() bool {
	if p.pinned() || !p.stableWhole() || !p.strays() {
		return false
	}
	p.writeSplit(0, Routing{})
	p.status.PhaseStartedAt = stamp(p.now) // what is open on them has the whole drain deadline
	p.waitForProxies()
	return true
}

// strays: there are pods beside stable's.
func (p *planner) strays() bool {
	return slices.ContainsFunc(p.seen.Sets, func(set Set) bool {
		return p.roleOf(&set) != v1alpha1.RevisionStable && (set.Replicas > 0 || set.Pods > 0)
	})
}

// cleared takes the pods of released sets that nobody needs: what an unheld rollout had begun or had made
// of a rejected template, what a handover has left. Stable is whole before, and open work on them ends or
// is cut at the drain deadline. It says whether none is left; the split must stay until then, which keeps
// traffic off them.
func (p *planner) cleared() bool {
	left := false
	for i := range p.seen.Sets {
		set := &p.seen.Sets[i]
		if set.Owned || set.Deleting || p.kept(set) || set.Replicas == 0 && set.Pods == 0 {
			continue
		}
		left = true
		if set.Replicas > 0 && p.stableWhole() && p.drained(set.Hash) {
			p.do(ScaleSet{Name: set.Name})
		}
	}
	if left {
		p.soon()
	}
	return !left
}

// kept: it is stable's set or, while its run is being set up, the canary's.
func (p *planner) kept(set *Set) bool {
	role := p.roleOf(set)
	return role == v1alpha1.RevisionStable || role == v1alpha1.RevisionCanary && p.status.Phase == v1alpha1.PhaseHeld
}
