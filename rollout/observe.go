// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Annotations of the Deployment controller on ReplicaSets and Deployments.
const (
	annotationRevision        = "deployment.kubernetes.io/revision"
	annotationRevisionHistory = "deployment.kubernetes.io/revision-history"
	annotationDesired         = "deployment.kubernetes.io/desired-replicas"
	annotationMaximum         = "deployment.kubernetes.io/max-replicas"
)

// scene is one look at the cluster: what plan sees, and the objects behind it, whose resource
// versions fence the effects.
type scene struct {
	Observed
	canary     *v1alpha1.Canary
	deployment *appsv1.Deployment
	sets       map[string]*appsv1.ReplicaSet
	split      *v1alpha1.TrafficSplit
	// evidence is the gate of the current run, if it was looked at.
	evidence *remembered
	// readAt is when all of it was last read from the API server.
	readAt time.Time
}

// observer reads a Canary's surroundings, from the API server or by what is remembered of them: every
// decision sees the controller's own last writes.
type observer struct {
	reader client.Reader
	// cached is for what other objects say: a moment's delay there cannot break an invariant.
	cached client.Reader
}

func (o *observer) observe(ctx context.Context, canary *v1alpha1.Canary) (*scene, error) {
	s := &scene{canary: canary, sets: map[string]*appsv1.ReplicaSet{}}
	for _, look := range []func(context.Context, *scene) error{
		o.namespace, o.rivals, o.target, o.replicaSets, o.trafficSplit, o.runs, o.source, o.starvation, o.dependencies, o.policies, o.approvals, o.outdated,
	} {
		if err := look(ctx, s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// namespace matters only to a Canary that goes.
func (o *observer) namespace(ctx context.Context, s *scene) error {
	if s.canary.DeletionTimestamp.IsZero() {
		return nil
	}
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err := o.reader.Get(ctx, types.NamespacedName{Name: s.canary.Namespace}, namespace)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read namespace %s: %w", s.canary.Namespace, err)
	}
	s.NamespaceTerminating = apierrors.IsNotFound(err) || !namespace.DeletionTimestamp.IsZero()
	return nil
}

// rivals are looked for in the cache, which has told of this Canary and tells of each other that comes
// or goes: read past it, each look would carry over all Canaries of the namespace.
func (o *observer) rivals(ctx context.Context, s *scene) error {
	list := &v1alpha1.CanaryList{}
	if err := o.cached.List(ctx, list, client.InNamespace(s.canary.Namespace)); err != nil {
		return fmt.Errorf("list canaries: %w", err)
	}
	for i := range list.Items {
		other := &list.Items[i]
		if other.Name != s.canary.Name && other.Spec.TargetRef == s.canary.Spec.TargetRef && older(other, s.canary) {
			s.Rival = other.Name
			return nil
		}
	}
	return nil
}

func older(a, b *v1alpha1.Canary) bool {
	if a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.Name < b.Name
	}
	return a.CreationTimestamp.Before(&b.CreationTimestamp)
}

func (o *observer) target(ctx context.Context, s *scene) error {
	d := &appsv1.Deployment{}
	err := o.reader.Get(ctx, types.NamespacedName{Namespace: s.canary.Namespace, Name: s.canary.Spec.TargetRef.Name}, d)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("read deployment %s: %w", s.canary.Spec.TargetRef.Name, err)
	}
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return fmt.Errorf("read the selector of deployment %s: %w", d.Name, err)
	}
	s.deployment = d
	s.Target = &Target{
		Name: d.Name, Generation: d.Generation, Deleting: !d.DeletionTimestamp.IsZero(), Template: d.Spec.Template,
		Replicas: replicas(d.Spec.Replicas), MaxSurge: maxSurge(d), Paused: d.Spec.Paused, Complete: complete(d),
		Recreate:         d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType,
		ProgressDeadline: progressDeadline(d),
		Canary:           d.Labels[v1alpha1.LabelCanary], Hold: d.Labels[v1alpha1.LabelHold],
		RestartsHeld: d.Labels[v1alpha1.LabelRestarts] == v1alpha1.RestartsHeld,
		Unmanaged:    d.Labels[v1alpha1.LabelManage] == v1alpha1.ManageOff,
		Revision:     revision(d.Annotations),
		PauseOwner:   pauseOwner(d),
		SelectsAll:   selector.Matches(labels.Set(releasedLabels("", "", ""))),
	}
	return nil
}

// replicaSets reads what the Deployment's selector finds and what was taken out of it.
func (o *observer) replicaSets(ctx context.Context, s *scene) error {
	if s.deployment == nil {
		return nil
	}
	inside, err := metav1.LabelSelectorAsSelector(s.deployment.Spec.Selector)
	if err != nil {
		return fmt.Errorf("read the selector of deployment %s: %w", s.deployment.Name, err)
	}
	outside, err := labels.Parse(v1alpha1.LabelRevision)
	if err != nil {
		return fmt.Errorf("make a selector of %s: %w", v1alpha1.LabelRevision, err)
	}
	for _, selector := range []labels.Selector{inside, outside} {
		list := &appsv1.ReplicaSetList{}
		if err := o.reader.List(ctx, list, client.InNamespace(s.canary.Namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
			return fmt.Errorf("list replicasets: %w", err)
		}
		for i := range list.Items {
			s.addSet(&list.Items[i])
		}
	}
	slices.SortFunc(s.Sets, func(a, b Set) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// addSet takes a ReplicaSet in if it belongs to the Deployment: by its controller reference, or by a
// plain one without having another controller.
func (s *scene) addSet(rs *appsv1.ReplicaSet) {
	owned := metav1.IsControlledBy(rs, s.deployment)
	released := metav1.GetControllerOf(rs) == nil && refersTo(rs, s.deployment.UID)
	if s.sets[rs.Name] != nil || !owned && !released {
		return
	}
	s.sets[rs.Name] = rs
	s.Sets = append(s.Sets, Set{
		Name: rs.Name, Hash: rs.Spec.Template.Labels[appsv1.DefaultDeploymentUniqueLabelKey], Template: rs.Spec.Template,
		Owned: owned, Role: rs.Labels[v1alpha1.LabelRevision],
		Replicas: replicas(rs.Spec.Replicas), Pods: rs.Status.Replicas, Ready: rs.Status.ReadyReplicas,
		Revision: revision(rs.Annotations), Created: rs.CreationTimestamp.Time, Deleting: !rs.DeletionTimestamp.IsZero(),
	})
}

func refersTo(rs *appsv1.ReplicaSet, owner types.UID) bool {
	return slices.ContainsFunc(rs.OwnerReferences, func(reference metav1.OwnerReference) bool { return reference.UID == owner })
}

func (o *observer) trafficSplit(ctx context.Context, s *scene) error {
	split := &v1alpha1.TrafficSplit{}
	err := o.reader.Get(ctx, types.NamespacedName{Namespace: s.canary.Namespace, Name: s.canary.Spec.TargetRef.Name}, split)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("read trafficsplit %s: %w", s.canary.Spec.TargetRef.Name, err)
	}
	s.split = split
	s.Split = &Split{
		Acknowledged: split.Status.ObservedGeneration == split.Generation &&
			split.Status.Proxies.Acknowledged == split.Status.Proxies.Carrying,
		Laggards: split.Status.Proxies.Laggards, Carrying: split.Status.Proxies.Carrying,
		Open: map[string]int64{}, TotalWeight: split.Spec.TotalWeight,
		Routing: Routing{Matches: split.Spec.Matches, Mirror: split.Spec.Mirror, Stickiness: split.Spec.Stickiness},
	}
	for _, part := range split.Spec.Revisions {
		switch part.Name {
		case v1alpha1.RevisionStable:
			s.Split.StableHash = part.PodTemplateHash
		case v1alpha1.RevisionCanary:
			s.Split.CanaryHash, s.Split.CanaryWeight = part.PodTemplateHash, part.Weight
		}
	}
	for _, open := range split.Status.Revisions {
		s.Split.Open[open.PodTemplateHash] = open.Requests + open.Connections
	}
	return nil
}

func (o *observer) runs(ctx context.Context, s *scene) error {
	list := &v1alpha1.CanaryRunList{}
	if err := o.reader.List(ctx, list, client.InNamespace(s.canary.Namespace), client.MatchingLabels{v1alpha1.LabelCanary: s.canary.Name}); err != nil {
		return fmt.Errorf("list canaryruns: %w", err)
	}
	s.Runs = list.Items
	slices.SortFunc(s.Runs, func(a, b v1alpha1.CanaryRun) int {
		return cmp.Compare(runNumber(s.canary.Name, b.Name), runNumber(s.canary.Name, a.Name))
	})
	return nil
}

// source matters to a run that is about to begin.
func (o *observer) source(ctx context.Context, s *scene) error {
	phase := s.canary.Status.Phase
	if s.deployment == nil || !s.Target.Paused || phase != v1alpha1.PhaseStable && phase != "" {
		return nil
	}
	source, err := SourceOf(ctx, o.reader, s.deployment)
	if err != nil {
		return fmt.Errorf("find the source of deployment %s: %w", s.deployment.Name, err)
	}
	if source != nil {
		s.Source = &source.RunSource
	}
	return nil
}

// starvation finds out why the canary has too few pods, if it has.
func (o *observer) starvation(ctx context.Context, s *scene) error {
	if s.canary.Status.Phase != v1alpha1.PhaseScaling || s.canary.Status.Canary == nil {
		return nil
	}
	rs := s.sets[s.canary.Status.Canary.ReplicaSet]
	if rs == nil || rs.Status.ReadyReplicas >= replicas(rs.Spec.Replicas) {
		return nil
	}
	for _, condition := range rs.Status.Conditions {
		if condition.Type == appsv1.ReplicaSetReplicaFailure && condition.Status == corev1.ConditionTrue {
			s.Starved = condition.Message
			return nil
		}
	}
	pods := &corev1.PodList{}
	if err := o.reader.List(ctx, pods, client.InNamespace(rs.Namespace), client.MatchingLabels(rs.Spec.Selector.MatchLabels)); err != nil {
		return fmt.Errorf("list pods of %s: %w", rs.Name, err)
	}
	for i := range pods.Items {
		for _, condition := range pods.Items[i].Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
				s.Starved = pods.Items[i].Name + ": " + condition.Message
			}
		}
	}
	return nil
}

func replicas(count *int32) int32 {
	if count == nil {
		return 1
	}
	return *count
}

func maxSurge(d *appsv1.Deployment) int32 {
	if d.Spec.Strategy.RollingUpdate == nil {
		return 0
	}
	surge, err := intstr.GetScaledValueFromIntOrPercent(
		intstr.ValueOrDefault(d.Spec.Strategy.RollingUpdate.MaxSurge, intstr.FromInt32(0)), int(replicas(d.Spec.Replicas)), true)
	if err != nil {
		return 0
	}
	return int32(surge)
}

// complete is the Deployment controller's own measure of a finished rollout.
func complete(d *appsv1.Deployment) bool {
	want := replicas(d.Spec.Replicas)
	return !d.Spec.Paused && d.Status.ObservedGeneration >= d.Generation &&
		d.Status.UpdatedReplicas == want && d.Status.Replicas == want && d.Status.AvailableReplicas == want
}

func progressDeadline(d *appsv1.Deployment) time.Duration {
	seconds := int32(600)
	if d.Spec.ProgressDeadlineSeconds != nil {
		seconds = *d.Spec.ProgressDeadlineSeconds
	}
	return time.Duration(seconds) * time.Second
}

func revision(annotations map[string]string) int64 {
	number, err := strconv.ParseInt(annotations[annotationRevision], 10, 64)
	if err != nil {
		return 0
	}
	return number
}
