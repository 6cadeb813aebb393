// SPDX-License-Identifier: Apache-2.0

package timeline

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// State is a workload at one moment, with its past. It is a value: later events leave it as it is.
type State struct {
	Canary     *v1alpha1.Canary
	Deployment *appsv1.Deployment
	// Runs by name.
	Runs map[string]*v1alpha1.CanaryRun
	// Pods of the namespace by UID.
	Pods map[types.UID]*corev1.Pod
	// Phases that the Canary went through, oldest first.
	Phases []Phase
	// Shifts of weight, oldest first.
	Shifts []Shift
	// Births of pods, oldest first.
	Births []Birth
	// Analysed are the pods of each run's canary as they were when a weight of it was last in force,
	// before it was promoted or taken back.
	Analysed map[string][]types.UID
}

// Phase is a moment at which the Canary's phase, run, step or weight had changed.
type Phase struct {
	At     time.Time
	Phase  v1alpha1.Phase
	Run    string
	Step   int32
	Weight int32
}

// Shift is a moment at which the canary's weight in the TrafficSplit, or whether all proxies run it,
// had changed. A TrafficSplit that is gone is a shift without a revision.
type Shift struct {
	At time.Time
	// Revision is the canary's pod-template-hash.
	Revision     string
	Weight       int32
	Acknowledged bool
	// Version is the TrafficSplit's resource version. Those of all objects count the same writes.
	Version uint64
}

// Birth is a pod that was not there before.
type Birth struct {
	At       time.Time
	UID      types.UID
	Revision string
	// Version is the resource version with which the pod was first seen.
	Version uint64
}

// after is the state once an event was seen.
func (s State) after(object any, deleted bool, name string, now time.Time) State {
	switch o := object.(type) {
	case *v1alpha1.Canary:
		if o.Name == name {
			s = s.afterCanary(o, deleted, now)
		}
	case *v1alpha1.CanaryRun:
		s.Runs = with(s.Runs, o.Name, o, deleted)
	case *v1alpha1.TrafficSplit:
		if o.Name == name {
			s = s.afterSplit(o, deleted, now)
		}
	case *appsv1.Deployment:
		if o.Name == name {
			s.Deployment = o
			if deleted {
				s.Deployment = nil
			}
		}
	case *corev1.Pod:
		if _, known := s.Pods[o.UID]; !known && !deleted {
			s.Births = append(slices.Clip(s.Births), Birth{At: now, UID: o.UID, Revision: o.Labels[LabelHash], Version: version(o)})
		}
		s.Pods = with(s.Pods, o.UID, o, deleted)
		s = s.analysing()
	}
	return s
}

func with[K comparable, V any](all map[K]V, key K, value V, deleted bool) map[K]V {
	out := maps.Clone(all)
	if out == nil {
		out = map[K]V{}
	}
	if deleted {
		delete(out, key)
	} else {
		out[key] = value
	}
	return out
}

func (s State) afterCanary(canary *v1alpha1.Canary, deleted bool, now time.Time) State {
	if deleted {
		s.Canary = nil
		return s
	}
	s.Canary = canary
	s = s.analysing()
	status := canary.Status
	phase := Phase{At: now, Phase: status.Phase, Run: status.Run, Step: status.Step, Weight: status.Weight}
	if n := len(s.Phases); n > 0 {
		last := s.Phases[n-1]
		last.At = now
		if last == phase {
			return s
		}
	}
	s.Phases = append(slices.Clip(s.Phases), phase)
	return s
}

// analysing keeps the canary's pods while a weight of it is in force or about to be.
func (s State) analysing() State {
	if s.Canary == nil || s.Canary.Status.Canary == nil {
		return s
	}
	switch status := s.Canary.Status; status.Phase {
	case v1alpha1.PhaseShifting, v1alpha1.PhaseHolding, v1alpha1.PhaseAwaitingApproval:
		s.Analysed = with(s.Analysed, status.Run, s.UIDs(status.Canary.PodTemplateHash), false)
	default:
	}
	return s
}

// version reads a resource version, of which Kubernetes says that it is a number that grows.
func version(object metav1.Object) uint64 {
	number, err := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0
	}
	return number
}

func (s State) afterSplit(split *v1alpha1.TrafficSplit, deleted bool, now time.Time) State {
	shift := Shift{At: now, Version: version(split)}
	for _, revision := range split.Spec.Revisions {
		if revision.Name == v1alpha1.RevisionCanary && !deleted {
			shift.Revision, shift.Weight = revision.PodTemplateHash, revision.Weight
		}
	}
	shift.Acknowledged = !deleted && split.Status.ObservedGeneration == split.Generation &&
		meta.IsStatusConditionTrue(split.Status.Conditions, v1alpha1.ConditionAcknowledged)
	if n := len(s.Shifts); n > 0 {
		last := s.Shifts[n-1]
		last.At, last.Version = shift.At, shift.Version
		if last == shift {
			return s
		}
	}
	s.Shifts = append(slices.Clip(s.Shifts), shift)
	return s
}

// PodsOf are the pods of a revision that are not on their way out, by UID.
func (s State) PodsOf(revision string) map[types.UID]*corev1.Pod {
	out := map[types.UID]*corev1.Pod{}
	for uid, pod := range s.Pods {
		if revision != "" && pod.Labels[LabelHash] == revision && pod.DeletionTimestamp == nil {
			out[uid] = pod
		}
	}
	return out
}

// UIDs are the pods of a revision that are not on their way out, in order.
func (s State) UIDs(revision string) []types.UID { return slices.Sorted(maps.Keys(s.PodsOf(revision))) }

// LatestRun is the youngest run of the Canary, nil before the first.
func (s State) LatestRun() *v1alpha1.CanaryRun {
	var latest *v1alpha1.CanaryRun
	for _, run := range s.Runs {
		if latest == nil || latest.CreationTimestamp.Before(&run.CreationTimestamp) {
			latest = run
		}
	}
	if s.Canary != nil && s.Canary.Status.Run != "" {
		// Runs of the same second cannot be told apart by their age.
		if run, ok := s.Runs[s.Canary.Status.Run]; ok {
			return run
		}
	}
	return latest
}

// Since drops the past before a moment.
func (s State) Since(moment time.Time) State {
	s.Phases = slices.DeleteFunc(slices.Clone(s.Phases), func(p Phase) bool { return p.At.Before(moment) })
	s.Shifts = slices.DeleteFunc(slices.Clone(s.Shifts), func(p Shift) bool { return p.At.Before(moment) })
	s.Births = slices.DeleteFunc(slices.Clone(s.Births), func(b Birth) bool { return b.At.Before(moment) })
	return s
}

// TimeToZero is the time from the first shift that gave a revision weight to the one that had taken
// it all away again and was acknowledged, or to the end of the TrafficSplit.
func (s State) TimeToZero(revision string) (time.Duration, bool) {
	var began time.Time
	for _, shift := range s.Shifts {
		switch {
		case began.IsZero() && shift.Revision == revision && shift.Weight > 0:
			began = shift.At
		case !began.IsZero() && (shift.Revision != revision || (shift.Weight == 0 && shift.Acknowledged)):
			return shift.At.Sub(began), true
		}
	}
	return 0, false
}

// Describe says where the workload stands, in one line.
func (s State) Describe() string {
	if s.Canary == nil {
		return "no Canary"
	}
	status := s.Canary.Status
	text := fmt.Sprintf("phase %s, step %d, weight %d, run %s", status.Phase, status.Step, status.Weight, status.Run)
	for _, condition := range status.Conditions {
		if condition.Type == v1alpha1.ConditionReady || condition.Status == metav1.ConditionTrue {
			text += fmt.Sprintf("; %s=%s (%s: %s)", condition.Type, condition.Status, condition.Reason, condition.Message)
		}
	}
	if status.Verdict != nil {
		text += fmt.Sprintf("; verdict %s: %s", status.Verdict.Verdict, status.Verdict.Reason)
	}
	return text
}
