// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// world is a small abstract cluster that a plan is tried against: a Deployment with its controller,
// pods that come and go, a mesh that acknowledges when it likes, a gate that says anything.
type world struct {
	random *rand.Rand
	now    time.Time
	canary v1alpha1.Canary
	gone   bool
	seen   Observed
	// had is the highest weight at which the present run was held, in thousandths, and of which run.
	had    int32
	hadRun string
	// created orders the sets.
	created int
	// violation is the first broken invariant.
	violation string
}

func template(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "app"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}},
	}
}

func newWorld(seed uint64) *world {
	w := &world{random: rand.New(rand.NewPCG(seed, 1)), now: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}
	w.canary.Name, w.canary.Namespace, w.canary.Generation = "app", "shop", 1
	w.canary.Status.ObservedGeneration = -1
	w.canary.Spec.TargetRef.Name = "app"
	w.canary.Spec.Steps = []v1alpha1.Step{testStep(10), testStep(50), testStep(100)}
	w.seen.Target = &Target{Name: "app", Generation: 1, Template: template("A"), Replicas: 3, MaxSurge: 1, ProgressDeadline: time.Minute}
	return w
}

func testStep(weight int32) v1alpha1.Step {
	return v1alpha1.Step{Weight: weight, Hold: metav1.Duration{Duration: 5 * time.Second}}
}

// observe is what a look sees; the plan gets copies.
func (w *world) observe() Observed {
	seen := w.seen
	target := *w.seen.Target
	target.Complete = w.complete()
	seen.Target = &target
	seen.Sets = slices.Clone(w.seen.Sets)
	seen.Runs = slices.Clone(w.seen.Runs)
	if w.seen.Split != nil {
		split := *w.seen.Split
		seen.Split = &split
	}
	seen.Gate = nil
	if gateIsDue(&w.canary) {
		seen.Gate = w.seen.Gate
	}
	return seen
}

func (w *world) complete() bool {
	serving := w.seen.serving()
	if w.seen.Target.Paused || serving == nil || serving.Ready != w.seen.Target.Replicas {
		return false
	}
	for _, set := range w.seen.Sets {
		if set.Owned && set.Name != serving.Name && set.Pods > 0 {
			return false
		}
	}
	return true
}

// reconcile plans once and carries the decision out, or dies after some of its effects.
func (w *world) reconcile(dies bool) {
	if w.gone {
		return
	}
	seen := w.observe()
	decision := Plan(&w.canary, seen, w.now)
	w.check(seen, decision)
	last := len(decision.Effects)
	if dies {
		last = w.random.IntN(last + 1)
	}
	for _, effect := range decision.Effects[:last] {
		w.apply(effect)
	}
	if dies {
		return
	}
	w.canary.Status = decision.Status
	if status := &w.canary.Status; status.Run != w.hadRun {
		w.hadRun, w.had = status.Run, 0
	} else if status.Phase == v1alpha1.PhaseHolding {
		w.had = max(w.had, (status.Weight*1000+totalOf(status.TotalWeight)-1)/totalOf(status.TotalWeight))
	}
}

func (w *world) apply(effect Effect) {
	t := w.seen.Target
	switch e := effect.(type) {
	case SetFinalizer:
		w.canary.Finalizers = []string{v1alpha1.FinalizerCanary}
	case ClearFinalizer:
		w.gone = true
	case MarkTarget:
		t.Canary, t.Hold, t.RestartsHeld = "app", e.Hold, holdsRestarts(&w.canary)
		if e.Hold != "" {
			t.Paused = true
		}
	case Unpause:
		t.Paused, t.Hold, t.RestartsHeld = false, "", holdsRestarts(&w.canary)
	case ForgetTarget:
		t.Canary, t.Hold, t.Paused, t.RestartsHeld = "", "", e.StayPaused, false
	case CreateRun:
		w.seen.Runs = append([]v1alpha1.CanaryRun{{ObjectMeta: metav1.ObjectMeta{Name: e.Name}, Spec: e.Spec}}, w.seen.Runs...)
	case RecordRun:
		w.record(e)
	case DeleteRun:
		w.seen.Runs = slices.DeleteFunc(w.seen.Runs, func(run v1alpha1.CanaryRun) bool { return run.Name == e.Name })
	case WriteSplit:
		w.seen.Split = &Split{StableHash: e.StableHash, CanaryHash: e.CanaryHash, CanaryWeight: e.CanaryWeight, TotalWeight: e.TotalWeight, Routing: e.Routing, Open: map[string]int64{}}
	case DeleteSplit:
		w.seen.Split = nil
	default:
		w.applyToSet(effect)
	}
}

func (w *world) record(e RecordRun) {
	run := w.seen.run(e.Run)
	if run == nil {
		return
	}
	if err := appendEntries(run, e); err != nil {
		w.fail("record %s: %v", e.Run, err)
	}
}

func (w *world) applyToSet(effect Effect) {
	switch e := effect.(type) {
	case CreateSet:
		w.addSet(Set{Name: e.Name, Hash: e.Hash, Template: e.Template, Owned: e.Owned, Role: e.Role, Replicas: e.Replicas, Revision: e.Revision})
	case ScaleSet:
		w.seen.set(e.Name).Replicas = e.Replicas
	case ReleaseSet:
		set := w.seen.set(e.Name)
		set.Owned, set.Role = false, e.Role
	case GiveBackSet:
		set := w.seen.set(e.Name)
		set.Owned, set.Role = true, ""
		if e.Handover != nil {
			set.Revision = e.Handover.Revision
		}
	case DeleteSet:
		w.seen.Sets = slices.DeleteFunc(w.seen.Sets, func(set Set) bool { return set.Name == e.Name })
	}
}

func (w *world) addSet(set Set) {
	if w.seen.set(set.Name) != nil {
		w.fail("ReplicaSet %s is created twice", set.Name)
		return
	}
	w.created++
	set.Created = w.now.Add(time.Duration(w.created))
	w.seen.Sets = append(w.seen.Sets, set)
}

// controller is one pass of the Deployment controller, as far as it matters here.
func (w *world) controller() {
	t := w.seen.Target
	if t.Paused {
		w.scalePaused()
		return
	}
	serving := w.seen.serving()
	if serving == nil {
		w.addSet(Set{Name: fmt.Sprintf("app-dc%d", w.created), Hash: fmt.Sprintf("dc%d", w.created), Template: t.Template, Owned: true})
		serving = w.seen.serving()
	}
	highest := int64(0)
	for i := range w.seen.Sets {
		set := &w.seen.Sets[i]
		if set.Owned && set.Name != serving.Name {
			highest = max(highest, set.Revision)
			if serving.Ready >= t.Replicas {
				set.Replicas = 0
			}
		}
	}
	serving.Replicas = t.Replicas
	serving.Revision = max(serving.Revision, highest+1)
}

// scalePaused scales the one active owned set, or the newest when none is.
func (w *world) scalePaused() {
	var active []*Set
	var newest *Set
	for i := range w.seen.Sets {
		set := &w.seen.Sets[i]
		switch {
		case !set.Owned:
			continue
		case set.Replicas > 0:
			active = append(active, set)
		}
		if newest == nil || set.Created.After(newest.Created) {
			newest = set
		}
	}
	switch {
	case len(active) == 1:
		active[0].Replicas = w.seen.Target.Replicas
	case len(active) == 0 && newest != nil:
		if serving := w.seen.serving(); serving != nil {
			newest = serving
		}
		newest.Replicas = w.seen.Target.Replicas
	}
}

// kubelet starts and stops pods; all of them when it is calm.
func (w *world) kubelet(calm bool) {
	for i := range w.seen.Sets {
		set := &w.seen.Sets[i]
		set.Pods = set.Replicas
		set.Ready = min(set.Ready, set.Pods)
		if calm || w.random.IntN(3) > 0 {
			set.Ready = set.Pods
		}
	}
}

// push is a commit that Git's tool applies, under the admission rule.
func (w *world) push(image string) { w.write(template(image)) }

// restart is kubectl rollout restart, under the admission rule.
func (w *world) restart(when string) {
	restarted := *w.seen.Target.Template.DeepCopy()
	restarted.Annotations = map[string]string{"kubectl.kubernetes.io/restartedAt": when}
	w.write(restarted)
}

func (w *world) write(changed corev1.PodTemplateSpec) {
	t := w.seen.Target
	if sameTemplate(t.Template, changed) {
		return
	}
	held := t.Canary != "" && (t.RestartsHeld || !sameRelease(t.Template, changed))
	t.Template = changed
	t.Generation++
	if held {
		t.Paused = true
		if t.Hold == "" {
			t.Hold = v1alpha1.HoldPending
		}
	}
}

// disturb is one thing that happens.
func (w *world) disturb() {
	t := w.seen.Target
	switch w.random.IntN(20) {
	case 0:
		w.push([]string{"A", "B", "C"}[w.random.IntN(3)])
	case 1:
		t.Replicas = []int32{0, 1, 3, 5}[w.random.IntN(4)]
	case 2:
		w.seen.Gate = randomGate(w.random)
	case 3:
		if w.random.IntN(10) == 0 {
			t.Paused = false
		}
	case 4:
		for i := range w.seen.Sets {
			if w.random.IntN(4) == 0 {
				w.seen.Sets[i].Ready = 0
			}
		}
	case 5:
		w.now = w.now.Add(time.Duration(w.random.IntN(90)) * time.Second)
	case 6:
		if w.random.IntN(10) == 0 && len(w.seen.Sets) > 0 {
			w.seen.Sets = slices.Delete(w.seen.Sets, 0, 1)
		}
	case 7:
		if split := w.seen.Split; split != nil {
			split.Open[split.CanaryHash] = int64(w.random.IntN(2))
		}
	case 8:
		if w.random.IntN(40) == 0 {
			deleted := metav1.NewTime(w.now)
			w.canary.DeletionTimestamp = &deleted
		}
	case 9:
		if w.random.IntN(5) == 0 {
			w.canary.Generation++
			w.canary.Spec.TotalWeight = 0
			w.canary.Spec.Steps = [][]v1alpha1.Step{
				{testStep(10), testStep(50), testStep(100)}, {testStep(100)}, {testStep(20), testStep(100)},
				{testStep(3), testStep(400), testStep(1000)},
			}[w.random.IntN(4)]
			w.strategy()
			if last := w.canary.Spec.Steps[len(w.canary.Spec.Steps)-1]; last.Weight == 1000 {
				w.canary.Spec.TotalWeight = 1000
			}
		}
	case 10:
		w.ask()
	case 11:
		w.seen.Dependencies = [][]Dependency{nil, {{Namespace: "shop", Name: "other", Phase: v1alpha1.PhaseHolding}}}[w.random.IntN(2)]
	case 12:
		w.restart([]string{"once", "again"}[w.random.IntN(2)])
	case 13:
		if w.random.IntN(5) == 0 {
			w.canary.Spec.Restart = []v1alpha1.Restart{v1alpha1.RestartRoll, v1alpha1.RestartCanary, v1alpha1.RestartAsk}[w.random.IntN(3)]
		}
	default:
		w.calmTick()
	}
}

// ask is what people ask of a run, sometimes of one that is over.
func (w *world) ask() {
	run := w.canary.Status.Run
	if len(w.seen.Runs) > 0 && w.random.IntN(4) == 0 {
		run = w.seen.Runs[w.random.IntN(len(w.seen.Runs))].Name
	}
	requests := []string{v1alpha1.AnnotationAbort, v1alpha1.AnnotationPromote, v1alpha1.AnnotationPause, v1alpha1.AnnotationRetry}
	w.canary.Annotations = map[string]string{requests[w.random.IntN(len(requests))]: run}
	if w.random.IntN(4) == 0 {
		w.canary.Annotations = nil
	}
}

// strategy edits what else a Canary says of its steps.
func (w *world) strategy() {
	spec := &w.canary.Spec
	spec.Preview, spec.Surge = nil, v1alpha1.SurgeFull
	beta := []v1alpha1.RequestMatch{{Method: "GET"}}
	if w.random.IntN(3) == 0 {
		spec.Preview = beta
	}
	if w.random.IntN(3) == 0 {
		spec.Surge = v1alpha1.SurgeDeployment
	}
	switch w.random.IntN(4) {
	case 0:
		spec.Steps = slices.Insert(spec.Steps, 0, v1alpha1.Step{Matches: beta, Hold: spec.Steps[0].Hold})
	case 1:
		spec.Steps = slices.Insert(spec.Steps, 0, v1alpha1.Step{Mirror: &v1alpha1.Mirror{Percent: 50}}, v1alpha1.Step{Matches: beta})
	case 2:
		replicas := intstr.FromInt32(2)
		spec.Steps[0].Replicas = &replicas
	}
}

// calmTick is time passing with nothing out of the ordinary.
func (w *world) calmTick() {
	w.now = w.now.Add(time.Second)
	w.controller()
	w.kubelet(false)
	if split := w.seen.Split; split != nil && w.random.IntN(2) == 0 {
		split.Acknowledged = true
	}
}

func randomGate(random *rand.Rand) *GateLook {
	verdicts := []analysis.Verdict{analysis.VerdictPass, analysis.VerdictPass, analysis.VerdictWait, analysis.VerdictHold, analysis.VerdictFail}
	if random.IntN(6) == 0 {
		return &GateLook{Unavailable: "connection refused"}
	}
	return &GateLook{Judgement: analysis.Judgement{Verdict: verdicts[random.IntN(len(verdicts))], Reason: "because"}}
}

func (w *world) fail(format string, arguments ...any) {
	if w.violation == "" {
		w.violation = fmt.Sprintf(format, arguments...)
	}
}
