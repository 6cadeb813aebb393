// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"math"
	"slices"
)

// syncDeployment is one pass of the Deployment controller (pkg/controller/deployment in Kubernetes),
// for a RollingUpdate with an absolute maxSurge and maxUnavailable 0. It is checked against the real
// one by the harness test. It is false when there is no room for another set.
func (s *State) syncDeployment() bool {
	d := &s.Deployment
	if !d.Exists {
		return true
	}
	pass := &controllerPass{State: s}
	for i := range s.Sets {
		pass.before[i] = s.Sets[i].Replicas
	}
	pass.sort()
	pass.syncRevision()
	fits := true
	switch {
	case d.Paused:
		pass.scale()
		pass.cleanUp()
	case pass.scalingEvent():
		pass.scale()
	default:
		fits = pass.roll()
	}
	pass.writeStatus()
	return fits
}

// controllerPass is what one pass works on. fresh is -1 when no set has the Deployment's template.
type controllerPass struct {
	*State
	fresh int
	old   []int
	// before are the sizes at the beginning of the pass: what is cleaned up is judged by them.
	before [maxSets]uint8
}

// sort finds the new set, the oldest whose template equals the Deployment's, and the old ones, oldest
// first.
func (p *controllerPass) sort() {
	p.fresh, p.old = -1, p.old[:0]
	for i := range p.Sets {
		switch {
		case !p.Sets[i].Exists || !p.Sets[i].Owned:
		case p.fresh < 0 && p.Sets[i].Template == p.Deployment.Template:
			p.fresh = i
		default:
			p.old = append(p.old, i)
		}
	}
}

func (p *controllerPass) highestOld() uint8 {
	highest := uint8(0)
	for _, i := range p.old {
		highest = max(highest, p.Sets[i].Revision)
	}
	return highest
}

func (p *controllerPass) syncRevision() {
	if p.fresh < 0 {
		return
	}
	p.Sets[p.fresh].Revision = max(p.Sets[p.fresh].Revision, p.highestOld()+1)
	p.Deployment.Revision = p.Sets[p.fresh].Revision
}

// all are the old sets and the new one.
func (p *controllerPass) all() []int {
	if p.fresh < 0 {
		return p.old
	}
	return append(slices.Clone(p.old), p.fresh)
}

func (p *controllerPass) active(of []int) []int {
	var found []int
	for _, i := range of {
		if p.Sets[i].Replicas > 0 {
			found = append(found, i)
		}
	}
	return found
}

func (p *controllerPass) total(of []int, count func(set) uint8) int {
	total := 0
	for _, i := range of {
		total += int(count(p.Sets[i]))
	}
	return total
}

func wanted(s set) uint8    { return s.Replicas }
func counted(s set) uint8   { return s.Pods }
func available(s set) uint8 { return s.Ready }

func (p *controllerPass) scalingEvent() bool {
	for _, i := range p.active(p.all()) {
		if desired := p.Sets[i].Desired; desired != unannotated && desired != p.Deployment.Replicas {
			return true
		}
	}
	return false
}

func (p *controllerPass) setScale(slot, replicas int) {
	p.Sets[slot].Replicas, p.Sets[slot].Desired = uint8(replicas), p.Deployment.Replicas
}

// scale acts on the one active set, or on the newest when none is; on more than one it empties the
// old ones when the new one is saturated, and scales all in proportion when it is not.
func (p *controllerPass) scale() {
	all := p.all()
	if len(all) == 0 {
		return
	}
	active, want := p.active(all), int(p.Deployment.Replicas)
	if len(active) > 1 {
		p.scaleSeveral(active)
		return
	}
	only := p.fresh
	switch {
	case len(active) == 1:
		only = active[0]
	case only < 0:
		only = p.old[len(p.old)-1]
	}
	if int(p.Sets[only].Replicas) != want {
		p.setScale(only, want)
	}
}

func (p *controllerPass) scaleSeveral(active []int) {
	if p.saturated() {
		for _, i := range p.active(p.old) {
			p.setScale(i, 0)
		}
		return
	}
	want := int(p.Deployment.Replicas)
	allowed := 0
	if want > 0 {
		allowed = want + surge
	}
	add := allowed - p.total(active, wanted)
	slices.SortStableFunc(active, func(a, b int) int {
		if bySize := cmp.Compare(p.Sets[b].Replicas, p.Sets[a].Replicas); bySize != 0 || add == 0 {
			return bySize
		}
		if add > 0 {
			return cmp.Compare(b, a)
		}
		return cmp.Compare(a, b)
	})
	p.distribute(active, add)
}

// distribute gives each set its share of what is added or taken; what is left over is the largest's.
func (p *controllerPass) distribute(active []int, add int) {
	added := 0
	sizes := make([]int, len(active))
	for at, i := range active {
		sizes[at] = int(p.Sets[i].Replicas)
		if add != 0 {
			share := p.share(i, add, added)
			sizes[at] += share
			added += share
		}
	}
	if add != 0 {
		sizes[0] = max(0, sizes[0]+add-added)
	}
	for at, i := range active {
		p.setScale(i, sizes[at])
	}
}

func (p *controllerPass) share(slot, add, added int) int {
	if add == added {
		return 0
	}
	size, want := int(p.Sets[slot].Replicas), int(p.Deployment.Replicas)
	fraction := -size
	if want > 0 {
		before := int(p.Sets[slot].Desired) + surge
		if p.Sets[slot].Desired == unannotated {
			if before = int(p.Deployment.Counted); before == 0 {
				return 0
			}
		}
		fraction = int(math.Round(float64(size*(want+surge))/float64(before))) - size
	}
	if add > 0 {
		return min(fraction, add-added)
	}
	return max(fraction, add-added)
}

func (p *controllerPass) saturated() bool {
	if p.fresh < 0 {
		return false
	}
	fresh, want := p.Sets[p.fresh], p.Deployment.Replicas
	return fresh.Replicas == want && fresh.Desired == want && fresh.Ready == want
}

// roll is one pass of a rolling update: up if there is room, else down as far as availability allows.
func (p *controllerPass) roll() bool {
	if p.fresh < 0 && !p.create() {
		return false
	}
	want := int(p.Deployment.Replicas)
	fresh := &p.Sets[p.fresh]
	if grown := p.grown(); int(fresh.Replicas) != grown {
		p.setScale(p.fresh, grown)
		return true
	}
	old := p.active(p.old)
	room := p.total(p.all(), wanted) - want - (int(fresh.Replicas) - int(fresh.Ready))
	if len(old) > 0 && room > 0 && p.shrink(old, room) {
		return true
	}
	if p.Deployment.Complete {
		p.cleanUp()
	}
	return true
}

// grown is the size that the new set may have now.
func (p *controllerPass) grown() int {
	want, size := int(p.Deployment.Replicas), int(p.Sets[p.fresh].Replicas)
	room := want + surge - p.total(p.all(), wanted)
	if size >= want || room <= 0 {
		return min(size, want)
	}
	return size + min(room, want-size)
}

func (p *controllerPass) create() bool {
	made := set{Owned: true, Name: byController + name(p.Deployment.Template), Template: p.Deployment.Template,
		Revision: p.highestOld() + 1, Desired: p.Deployment.Replicas}
	if p.find(made.Name) >= 0 {
		made.Name = p.freshName()
	}
	if !p.add(made) {
		return false
	}
	p.sort()
	p.Sets[p.fresh].Replicas = uint8(p.grown())
	p.Deployment.Revision = p.Sets[p.fresh].Revision
	return true
}

// shrink takes unready pods of the old sets first, then as many as can be spared.
func (p *controllerPass) shrink(old []int, room int) bool {
	down := 0
	for _, i := range old {
		if unready := min(room-down, int(p.Sets[i].Replicas)-int(p.Sets[i].Ready)); unready > 0 {
			p.setScale(i, int(p.Sets[i].Replicas)-unready)
			down += unready
		}
	}
	spare := p.total(append(slices.Clone(old), p.fresh), available) - int(p.Deployment.Replicas)
	for _, i := range old {
		if less := min(int(p.Sets[i].Replicas), spare); less > 0 {
			p.setScale(i, int(p.Sets[i].Replicas)-less)
			down += less
			spare -= less
		}
	}
	return down > 0
}

// cleanUp deletes old sets without pods when no history is kept, even one that the same pass has just
// scaled up.
func (p *controllerPass) cleanUp() {
	if !p.Deployment.NoHistory {
		return
	}
	for _, i := range slices.Backward(p.old) {
		if p.before[i] == 0 && p.Sets[i].Pods == 0 {
			p.remove(i)
		}
	}
	p.sort()
}

func (p *controllerPass) writeStatus() {
	p.sort()
	d, all := &p.Deployment, p.all()
	d.Counted = uint8(p.total(all, counted))
	d.Complete = !d.Paused && p.fresh >= 0 && p.Sets[p.fresh].Pods == d.Replicas &&
		p.total(all, counted) == int(d.Replicas) && p.total(all, available) == int(d.Replicas)
}

// syncSet is one pass of the ReplicaSet controller: it removes pods that are not ready first.
func (s *State) syncSet(slot int) {
	one := &s.Sets[slot]
	one.Pods = one.Replicas
	one.Ready = min(one.Ready, one.Pods)
}
