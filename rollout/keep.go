// SPDX-License-Identifier: Apache-2.0

package rollout

import "github.com/sluice-mesh/sluice/api/v1alpha1"

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

// emptyStrangers scales down released sets that are no part of the run: what an unheld rollout had
// begun, or what was warm after the last run.
func (p *planner) emptyStrangers() {
	for i := range p.seen.Sets {
		set := &p.seen.Sets[i]
		if !set.Owned && set.Replicas > 0 && p.roleOf(set) == v1alpha1.RevisionHistory {
			p.do(ScaleSet{Name: set.Name})
		}
	}
}
