// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// bench is a cluster without a rollout controller, whose pods may be kept from becoming ready: what
// the model of the Deployment controller is compared in.
type bench struct {
	State
	// Broken pods of each set do not become ready again.
	Broken [maxSets]uint8
}

// deed is something that a test does to the Deployment or its sets.
type deed struct {
	what string
	slot int
	n    uint8
}

const (
	doScale    = "scale"
	doPush     = "push"
	doPause    = "pause"
	doUnpause  = "unpause"
	doRelease  = "release"
	doGiveBack = "give back"
	doHandOver = "hand over"
	doScaleSet = "scale set"
	doCreate   = "create set"
	doDelete   = "delete set"
	doBreak    = "break pod"
	doHeal     = "heal pods"
)

func (d deed) String() string { return fmt.Sprintf("%s(slot %d, %d)", d.what, d.slot, d.n) }

func (b *bench) do(d deed) {
	switch d.what {
	case doScale:
		b.toDeployment(happening{scaleTo, d.n})
	case doPush:
		b.toDeployment(happening{push, d.n})
	case doPause:
		b.toDeployment(happening{kind: pause})
	case doUnpause:
		b.toDeployment(happening{kind: unpause})
	case doRelease:
		b.Sets[d.slot].Owned = false
	case doGiveBack:
		b.Sets[d.slot].Owned = true
	case doHandOver:
		b.Sets[d.slot].Owned = true
		b.Sets[d.slot].Desired = b.Deployment.Replicas
		b.Sets[d.slot].Revision = b.nextRevision()
	case doScaleSet:
		b.Sets[d.slot].Replicas = d.n
	case doCreate:
		b.add(set{Name: b.freshName(), Template: b.Deployment.Template, Replicas: d.n, Desired: unannotated})
	case doDelete:
		b.remove(d.slot)
		copy(b.Broken[d.slot:], b.Broken[d.slot+1:])
		b.Broken[maxSets-1] = 0
	case doBreak:
		b.Broken[d.slot]++
		b.Sets[d.slot].Ready--
	case doHeal:
		b.Broken = [maxSets]uint8{}
	}
}

func (b *bench) nextRevision() uint8 {
	highest := uint8(0)
	for i := range b.Sets {
		highest = max(highest, b.Sets[i].Revision)
	}
	return highest + 1
}

// quiet are all states in which the cluster can come to rest, whatever the order in which its
// controllers and the kubelet act.
func (b bench) quiet() ([]bench, error) {
	const limit = 100_000
	met := map[bench]bool{b: true}
	todo := []bench{b}
	var rests []bench
	for len(todo) > 0 {
		next := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		still := true
		for _, after := range next.moves() {
			if after == next {
				continue
			}
			still = false
			if !met[after] {
				met[after] = true
				todo = append(todo, after)
			}
		}
		if still {
			rests = append(rests, next)
		}
		if len(met) > limit {
			return nil, fmt.Errorf("more than %d states on the way to rest", limit)
		}
	}
	return rests, nil
}

func (b bench) moves() []bench {
	synced := b
	if !synced.syncDeployment() {
		return nil
	}
	found := []bench{synced}
	for i := range b.Sets {
		after := b
		one := &after.Sets[i]
		if gone := one.Pods - min(one.Pods, one.Replicas); gone > 0 {
			after.Broken[i] -= min(after.Broken[i], gone)
		}
		after.syncSet(i)
		if after == b && one.Ready < one.Pods-after.Broken[i] {
			one.Ready++
		}
		found = append(found, after)
	}
	return found
}

// shape is what can be read of a bench, in words.
func (b *bench) shape() string {
	d := &b.Deployment
	parts := []string{fmt.Sprintf("%s x%d r%d", d.Template, d.Replicas, d.Revision) + flags("paused", d.Paused, "complete", d.Complete)}
	for _, one := range b.Sets {
		if !one.Exists {
			continue
		}
		parts = append(parts, setShape(one))
	}
	return strings.Join(parts, " | ")
}

func setShape(one set) string {
	text := fmt.Sprintf("%s %d/%d/%d r%d", one.Template, one.Replicas, one.Pods, one.Ready, one.Revision)
	if one.Desired != unannotated {
		text += fmt.Sprintf(" desired %d", one.Desired)
	}
	return text + flags("released", !one.Owned)
}

// newBench is a Deployment that has just been created.
func newBench(replicas uint8, noHistory bool) bench {
	return bench{State: State{Deployment: deployment{Exists: true, Replicas: replicas, NoHistory: noHistory}}}
}

// after does deeds, each once the cluster is quiet, and returns where it can come to rest. A model
// that can end in more than one state is followed by its first.
func (b bench) after(t *testing.T, deeds ...deed) bench {
	t.Helper()
	for _, d := range append([]deed{{what: doHeal}}, deeds...) {
		b.do(d)
		rests, err := b.quiet()
		require.NoError(t, err)
		require.NotEmpty(t, rests)
		b = rests[0]
	}
	return b
}

// run is one of the runs of the design's review: what the Deployment controller does to a handover.
type namedRun struct {
	name     string
	replicas uint8
	bare     bool
	deeds    []deed
	// want is the shape of the sets at the end, oldest first.
	want []string
}

func namedRuns() []namedRun {
	a, b := uint8(0), uint8(1)
	history := []deed{{what: doPush, n: b}, {what: doPause}}
	return []namedRun{
		{name: "A: a set of equal template in the history is taken, the handed over one is emptied", replicas: 3,
			deeds: append(slices.Clone(history), deed{what: doPush, n: a}, deed{what: doCreate, n: 3}, deed{what: doHandOver, slot: 2}, deed{what: doUnpause}),
			want:  []string{"A 3/3/3 r5 desired 3", "B 0/0/0 r2 desired 3", "A 0/0/0 r4 desired 3"}},
		{name: "B1: the replicas move at the handover of a canary beside stable", replicas: 3,
			deeds: []deed{{what: doPause}, {what: doPush, n: b}, {what: doCreate, n: 3}, {what: doHandOver, slot: 1}, {what: doScale, n: 4}},
			want:  []string{"A 0/0/0 r1 desired 3", "B 4/4/4 r2 desired 4"}},
		{name: "B4b: an unready canary with annotations leaves stable most of its pods", replicas: 4,
			deeds: []deed{{what: doPause}, {what: doPush, n: b}, {what: doCreate, n: 4}, {what: doBreak, slot: 1}, {what: doBreak, slot: 1}, {what: doHandOver, slot: 1}},
			want:  []string{"A 1/1/1 r1 desired 4", "B 4/4/2 r2 desired 4"}},
		{name: "B6: a canary of maxSurge pods is finished by the rolling update", replicas: 4,
			deeds: []deed{{what: doPause}, {what: doPush, n: b}, {what: doCreate, n: 1}, {what: doGiveBack, slot: 1}, {what: doUnpause}},
			want:  []string{"A 0/0/0 r1 desired 4", "B 4/4/4 r2 desired 4"}},
		{name: "D1: scaling to zero and back starts a retired revision", replicas: 2,
			deeds: []deed{{what: doPush, n: b}, {what: doPush, n: a}, {what: doPause}, {what: doPush, n: 2}, {what: doScale, n: 0}, {what: doScale, n: 2}},
			want:  []string{"A 0/0/0 r3 desired 0", "B 2/2/2 r2 desired 2"}},
		{name: "D2: scaling to zero and back starts the held revision", replicas: 2,
			deeds: []deed{{what: doPush, n: b}, {what: doPause}, {what: doPush, n: a}, {what: doScale, n: 0}, {what: doScale, n: 2}},
			want:  []string{"A 2/2/2 r3 desired 2", "B 0/0/0 r2 desired 0"}},
		{name: "D3: without history scaling to zero deletes stable", replicas: 2, bare: true,
			deeds: []deed{{what: doPause}, {what: doPush, n: b}, {what: doScale, n: 0}, {what: doScale, n: 2}},
			want:  nil},
		{name: "E1: release first, with pods down and the replicas moving", replicas: 3,
			deeds: []deed{{what: doPause}, {what: doPush, n: b}, {what: doCreate, n: 3}, {what: doBreak, slot: 1}, {what: doRelease, slot: 0},
				{what: doHandOver, slot: 1}, {what: doScale, n: 4}, {what: doUnpause}, {what: doHeal}, {what: doScaleSet, slot: 0}, {what: doGiveBack, slot: 0}},
			want: []string{"A 0/0/0 r1 desired 3", "B 4/4/4 r2 desired 4"}},
		{name: "E2: a return by the set of the history", replicas: 3,
			deeds: append(slices.Clone(history), deed{what: doPush, n: a}, deed{what: doRelease, slot: 0}, deed{what: doScaleSet, slot: 0, n: 3},
				deed{what: doRelease, slot: 1}, deed{what: doHandOver, slot: 0}, deed{what: doUnpause}),
			want: []string{"A 3/3/3 r4 desired 3", "B 3/3/3 r2 desired 3 released"}},
		{name: "E3: adopted by labels and controller reference in one patch", replicas: 3,
			deeds: []deed{{what: doPause}, {what: doPush, n: b}, {what: doCreate, n: 3}, {what: doRelease, slot: 0}, {what: doHandOver, slot: 1}, {what: doUnpause}},
			want:  []string{"A 3/3/3 r1 desired 3 released", "B 3/3/3 r2 desired 3"}},
	}
}

// The model does what the runs saw; the harness test does the same with the real controller.
func TestNamedRuns(t *testing.T) {
	for _, c := range namedRuns() {
		t.Run(c.name, func(t *testing.T) {
			end := newBench(c.replicas, c.bare).after(t, c.deeds...)
			var shapes []string
			for _, one := range end.Sets {
				if one.Exists {
					shapes = append(shapes, setShape(one))
				}
			}
			require.Equal(t, c.want, shapes)
		})
	}
}
