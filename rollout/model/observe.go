// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
)

// Durations of the abstract Canary, in the order in which they pass: what is told apart by age.
const (
	drainDeadline    = 20 * time.Second
	progressDeadline = time.Minute
	stepHold         = 30 * time.Second
	rollbackWindow   = 24 * time.Hour
	appName          = "app"
)

// world knows the objects that states stand for. It is made once and never changes.
type world struct {
	now       time.Time
	templates [2 * releases]corev1.PodTemplateSpec
	raw       [2 * releases]runtime.RawExtension
}

func newWorld() (*world, error) {
	w := &world{now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	for t := range template(2 * releases) {
		spec := corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": appName}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: appName, Image: appName + ":" + t.String()[:1]}}},
		}
		if t&1 != 0 {
			spec.Annotations = map[string]string{"kubectl.kubernetes.io/restartedAt": "once"}
		}
		raw, err := json.Marshal(spec)
		if err != nil {
			return nil, fmt.Errorf("encode template %s: %w", t, err)
		}
		w.templates[t], w.raw[t] = spec, runtime.RawExtension{Raw: raw}
	}
	return w, nil
}

func (t template) String() string {
	letter := string(rune('A' + t.release()))
	if t&1 != 0 {
		return letter + "'"
	}
	return letter
}

func phaseNames() []v1alpha1.Phase {
	return []v1alpha1.Phase{
		"", v1alpha1.PhaseStable, v1alpha1.PhaseHeld, v1alpha1.PhaseScaling, v1alpha1.PhaseShifting,
		v1alpha1.PhaseHolding, v1alpha1.PhaseAwaitingApproval, v1alpha1.PhasePromoting, v1alpha1.PhaseRollingBack, v1alpha1.PhaseRejected,
	}
}

func outcomeNames() []v1alpha1.Outcome {
	return []v1alpha1.Outcome{"", v1alpha1.OutcomePromoted, v1alpha1.OutcomeRolledBack, v1alpha1.OutcomeCancelled}
}

// restartNames are the values of spec.restart; the first is its default.
func restartNames() []v1alpha1.Restart {
	return []v1alpha1.Restart{v1alpha1.RestartRoll, v1alpha1.RestartCanary, v1alpha1.RestartAsk}
}

// stepLists are the lists of weights that spec.steps is edited between; the first is what it begins with.
func stepLists() [][]uint8 { return [][]uint8{{10, 50, 100}, {100}, {20, 100}} }

func stepsOf(list uint8) []v1alpha1.Step {
	var steps []v1alpha1.Step
	for _, weight := range stepLists()[list] {
		steps = append(steps, v1alpha1.Step{Weight: int32(weight), Hold: metav1.Duration{Duration: stepHold}})
	}
	return steps
}

func (n name) String() string {
	switch {
	case n == nobody:
		return ""
	case n >= byController:
		return appName + "-dc-" + template(n-byController).String()
	}
	return appName + "-set-" + strconv.Itoa(int(n))
}

func (n name) hash() string { return strings.TrimPrefix(n.String(), appName+"-") }

// runName numbers the records that exist from the oldest.
func (s *State) runName(i runIndex) string {
	switch i {
	case noRun:
		return ""
	case goneRun:
		return appName + "-0"
	}
	return fmt.Sprintf("%s-%d", appName, s.countRuns()-int(i)+1)
}

func (s *State) countRuns() int {
	count := 0
	for i := range s.Runs {
		if s.Runs[i].Exists {
			count++
		}
	}
	return count
}

func (s *State) holdLabel() string {
	switch h := s.Deployment.Hold; h {
	case notHeld:
		return ""
	case pending:
		return v1alpha1.HoldPending
	case heldByGone:
		return appName + "-0"
	default:
		return s.runName(runIndex(h-heldByRun) + 1)
	}
}

// canary is the Canary that a state stands for.
func (w *world) canary(s *State) *v1alpha1.Canary {
	c := &s.Canary
	object := &v1alpha1.Canary{}
	object.Name, object.Namespace, object.Generation = appName, "shop", 2
	object.Spec = v1alpha1.CanarySpec{
		TargetRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: appName},
		Steps:     stepsOf(c.Steps), Suspend: c.Suspended, Restart: restartNames()[c.Restart],
		History: &v1alpha1.History{Limit: maxRuns - 2}, RollbackWindow: &metav1.Duration{Duration: rollbackWindow}, Drain: &metav1.Duration{Duration: drainDeadline},
	}
	if c.Finalizer {
		object.Finalizers = []string{v1alpha1.FinalizerCanary}
	}
	object.Annotations = map[string]string{}
	if c.Aborted {
		object.Annotations[v1alpha1.AnnotationAbort] = s.runName(c.Run)
	}
	if c.Promoted {
		object.Annotations[v1alpha1.AnnotationPromote] = s.runName(c.Run)
	}
	if c.Deleting {
		object.DeletionTimestamp = w.ago(0)
	}
	object.Status = v1alpha1.CanaryStatus{
		ObservedGeneration: 2, Phase: phaseNames()[c.Phase], Run: s.runName(c.Run),
		Step: int32(c.Step), Weight: int32(c.Weight),
		Stable: revisionStatus(c.Stable), Canary: revisionStatus(c.Canary),
		PhaseStartedAt: w.phaseStart(c.PhaseAge),
	}
	if c.Canary != nobody {
		object.Status.Canary.Replicas, object.Status.Canary.ReadyReplicas = int32(c.Size), int32(c.Ready)
	}
	if c.Edited {
		object.Status.ObservedGeneration = 1
	}
	if c.StoodSuspended {
		object.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Reason: v1alpha1.ReasonSuspended}}
	}
	if c.StepAge != never {
		object.Status.StepStartedAt = w.ago(time.Duration(c.StepAge) * 2 * stepHold)
		object.Status.Verdict = &v1alpha1.VerdictStatus{Verdict: string(analysis.VerdictWait), Time: *object.Status.StepStartedAt}
		if c.VerdictFresh {
			object.Status.Verdict.Time = *w.ago(0)
		}
	}
	return object
}

func revisionStatus(n name) *v1alpha1.RevisionStatus {
	if n == nobody {
		return nil
	}
	return &v1alpha1.RevisionStatus{ReplicaSet: n.String(), PodTemplateHash: n.hash()}
}

func (w *world) ago(d time.Duration) *metav1.Time {
	at := metav1.NewTime(w.now.Add(-d))
	return &at
}

func (w *world) phaseStart(a age) *metav1.Time {
	switch a {
	case never:
		return nil
	case drainOver:
		return w.ago(drainDeadline + time.Second)
	case progressOver:
		return w.ago(progressDeadline + time.Second)
	}
	return w.ago(0)
}

// phaseAge is the age that a time in a status stands for.
func (w *world) phaseAge(at *metav1.Time) age {
	switch {
	case at == nil:
		return never
	case w.now.Sub(at.Time) >= progressDeadline:
		return progressOver
	case w.now.Sub(at.Time) >= drainDeadline:
		return drainOver
	}
	return young
}

// observe is what a look sees.
func (w *world) observe(s *State) rollout.Observed {
	seen := rollout.Observed{}
	d := &s.Deployment
	if d.Exists {
		seen.Target = &rollout.Target{
			Name: appName, Generation: 1, Template: w.templates[d.Template], Replicas: int32(d.Replicas), MaxSurge: surge,
			Paused: d.Paused, Complete: d.Complete, ProgressDeadline: progressDeadline,
			Hold: s.holdLabel(), Unmanaged: d.Unmanaged, RestartsHeld: d.RestartsHeld, Revision: int64(d.Revision),
		}
		if d.Marked {
			seen.Target.Canary = appName
		}
	}
	for i, one := range s.Sets {
		if !one.Exists {
			continue
		}
		seen.Sets = append(seen.Sets, rollout.Set{
			Name: one.Name.String(), Hash: one.Name.hash(), Template: w.templates[one.Template], Owned: one.Owned,
			Replicas: int32(one.Replicas), Pods: int32(one.Pods), Ready: int32(one.Ready),
			Revision: int64(one.Revision), Created: w.now.Add(time.Duration(i) * time.Second),
		})
	}
	slices.SortFunc(seen.Sets, func(a, b rollout.Set) int { return strings.Compare(a.Name, b.Name) })
	if s.Split.Exists {
		seen.Split = s.observedSplit()
	}
	for i := range s.Runs {
		if s.Runs[i].Exists {
			seen.Runs = append(seen.Runs, w.record(s, i))
		}
	}
	return seen
}

func (s *State) observedSplit() *rollout.Split {
	p := &s.Split
	split := &rollout.Split{
		StableHash: p.Stable.hash(), CanaryHash: p.Canary.hash(), CanaryWeight: int32(p.Weight),
		TotalWeight: v1alpha1.DefaultTotalWeight, Acknowledged: p.Acknowledged, Carrying: 1, Open: map[string]int64{},
	}
	if !p.Acknowledged {
		split.Laggards = []string{"laggard"}
	}
	if p.Weight < 100 || p.Open {
		split.Open[p.Stable.hash()] = 1
	}
	if p.Weight > 0 || p.Open {
		split.Open[p.Canary.hash()] = 1
	}
	return split
}

func (w *world) record(s *State, i int) v1alpha1.CanaryRun {
	r := &s.Runs[i]
	record := v1alpha1.CanaryRun{}
	record.Name = s.runName(runIndex(i + 1))
	record.Spec = v1alpha1.CanaryRunSpec{
		Canary: appName, Kind: v1alpha1.RunCanary,
		Stable: w.runRevision(r.Stable, r.StableRun), Candidate: w.runRevision(r.Candidate, r.CandidateRun),
	}
	if r.Return {
		record.Spec.Kind = v1alpha1.RunReturn
	}
	record.Record.Outcome = outcomeNames()[r.Outcome]
	if r.Ended {
		record.Record.EndedAt = w.ago(2 * rollbackWindow)
		if r.Recent {
			record.Record.EndedAt = w.ago(0)
		}
	}
	return record
}

func (w *world) runRevision(n name, t template) v1alpha1.RunRevision {
	return v1alpha1.RunRevision{ReplicaSet: n.String(), PodTemplateHash: n.hash(), Template: w.raw[t]}
}

// look is what the gate and the scheduler may say at one look; it is not part of a state.
type look struct {
	verdict     analysis.Verdict
	unavailable bool
	starved     bool
	hooks       reply
	// unapproved: nobody has approved the step.
	unapproved bool
	// slotless: no slot of a budget is free. emergency: a policy takes all traffic back.
	slotless, emergency bool
}

func (l look) into(seen *rollout.Observed, holding bool) {
	if l.starved {
		seen.Starved = "no node has room"
	}
	switch {
	case !holding:
	case l.unavailable:
		seen.Gate = &rollout.GateLook{Unavailable: "connection refused"}
	default:
		seen.Gate = &rollout.GateLook{Judgement: analysis.Judgement{Verdict: l.verdict, Reason: "because"}}
	}
}
