// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// watch looks at Canaries whenever something of theirs changes. Workloads and their sets are watched
// by metadata only: any change of their status changes that too, and what is decided on is read anew.
func watch(mgr manager.Manager, reconciler *Reconciler, options Options) error {
	byTarget := &trigger{reader: mgr.GetClient()}
	asked := predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{})
	building := builder.ControllerManagedBy(mgr).Named("canary").
		For(&v1alpha1.Canary{}, builder.WithPredicates(asked)).
		Watches(&v1alpha1.Canary{}, handler.EnqueueRequestsFromMapFunc(byTarget.siblings), builder.WithPredicates(asked)).
		Watches(&v1alpha1.Canary{}, handler.EnqueueRequestsFromMapFunc(byTarget.dependents), builder.WithPredicates(phaseChanged())).
		Watches(&v1alpha1.RolloutPolicy{}, handler.EnqueueRequestsFromMapFunc(byTarget.governed), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.RolloutPolicy{}, handler.EnqueueRequestsFromMapFunc(byTarget.admitted)).
		Watches(&v1alpha1.Approval{}, handler.EnqueueRequestsFromMapFunc(approved)).
		Watches(&v1alpha1.TrafficSplit{}, handler.EnqueueRequestsFromMapFunc(byTarget.named)).
		Watches(&appsv1.Deployment{}, handler.EnqueueRequestsFromMapFunc(byTarget.named), builder.OnlyMetadata).
		Watches(&appsv1.ReplicaSet{}, handler.EnqueueRequestsFromMapFunc(byTarget.owned), builder.OnlyMetadata).
		WithOptions(controller.Options{MaxConcurrentReconciles: orDefault(options.Concurrency, 10), RateLimiter: pauses()})
	if options.News != nil {
		building = building.WatchesRawSource(source.Channel(options.News, handler.Funcs{GenericFunc: byTarget.told}))
	}
	if options.Alarms != nil {
		building = building.WatchesRawSource(source.Channel(options.Alarms, handler.EnqueueRequestsFromMapFunc(byTarget.named)))
	}
	if err := building.Complete(reconciler); err != nil {
		return fmt.Errorf("register the canary controller: %w", err)
	}
	return nil
}

// pauses between looks that failed, twice as long each time. The longest is how late a run may go on after
// an outage of admission, if nothing happens that wakes it.
func pauses() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](shortestPause, longestPause)
}

const (
	shortestPause = 5 * time.Millisecond
	longestPause  = 30 * time.Second
)

// trigger finds the Canaries that an object matters to.
type trigger struct {
	reader client.Reader
}

// named: the object is a workload or is named after one.
func (t *trigger) named(ctx context.Context, object client.Object) []reconcile.Request {
	return t.targeting(ctx, object.GetNamespace(), object.GetName())
}

// told: a source of metrics has news of a workload. Such looks come after those at what somebody did: however
// many runs there are, an abort or a revert waits for none of them.
func (t *trigger) told(ctx context.Context, news event.GenericEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	for _, request := range t.named(ctx, news.Object) {
		if byPriority, ok := queue.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
			byPriority.AddWithOpts(priorityqueue.AddOpts{Priority: new(handler.LowPriority)}, request)
			continue
		}
		queue.Add(request)
	}
}

// owned: the object belongs to a Deployment, whether that controls it or not.
func (t *trigger) owned(ctx context.Context, object client.Object) []reconcile.Request {
	for _, reference := range object.GetOwnerReferences() {
		if reference.Kind == "Deployment" {
			return t.targeting(ctx, object.GetNamespace(), reference.Name)
		}
	}
	return nil
}

// siblings: another Canary with the same target came or went.
func (t *trigger) siblings(ctx context.Context, object client.Object) []reconcile.Request {
	canary, ok := object.(*v1alpha1.Canary)
	if !ok {
		return nil
	}
	return t.targeting(ctx, canary.Namespace, canary.Spec.TargetRef.Name)
}

// dependents depend on a Canary whose phase changed.
func (t *trigger) dependents(ctx context.Context, object client.Object) []reconcile.Request {
	list := &v1alpha1.CanaryList{}
	if err := t.reader.List(ctx, list, client.MatchingFields{fieldDependency: client.ObjectKeyFromObject(object).String()}); err != nil {
		log.FromContext(ctx).Error(err, "list canaries that depend on another", "namespace", object.GetNamespace(), "canary", object.GetName())
		return nil
	}
	return requestsOf(list)
}

func requestsOf(list *v1alpha1.CanaryList) []reconcile.Request {
	var requests []reconcile.Request
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}

// governed are the Canaries in a run, on which a changed policy may have something to say.
func (t *trigger) governed(ctx context.Context, _ client.Object) []reconcile.Request {
	return t.where(ctx, func(canary *v1alpha1.Canary) bool { return canary.Status.Phase != v1alpha1.PhaseStable })
}

// admitted are the Canaries in a policy's queue that may have a free slot now.
func (t *trigger) admitted(ctx context.Context, object client.Object) []reconcile.Request {
	policy, ok := object.(*v1alpha1.RolloutPolicy)
	if !ok {
		return nil
	}
	return t.where(ctx, func(canary *v1alpha1.Canary) bool {
		return queues(policy, canary) && room(policy, policy.Status.Running, canary.Namespace, canary.Name)
	})
}

func (t *trigger) where(ctx context.Context, matches func(*v1alpha1.Canary) bool) []reconcile.Request {
	list := &v1alpha1.CanaryList{}
	if err := t.reader.List(ctx, list); err != nil {
		log.FromContext(ctx).Error(err, "list canaries for a policy")
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if matches(&list.Items[i]) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return requests
}

// approved is the Canary that an Approval speaks of.
func approved(_ context.Context, object client.Object) []reconcile.Request {
	approval, ok := object.(*v1alpha1.Approval)
	if !ok {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: approval.Namespace, Name: approval.Spec.Canary}}}
}

// phaseChanged passes Canaries that came, went or entered another phase.
func phaseChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1alpha1.Canary)
		after, still := e.ObjectNew.(*v1alpha1.Canary)
		return ok && still && before.Status.Phase != after.Status.Phase
	}}
}

func (t *trigger) targeting(ctx context.Context, namespace, workload string) []reconcile.Request {
	list := &v1alpha1.CanaryList{}
	if err := t.reader.List(ctx, list, client.InNamespace(namespace), client.MatchingFields{fieldTarget: workload}); err != nil {
		log.FromContext(ctx).Error(err, "list canaries of a workload", "namespace", namespace, "workload", workload)
		return nil
	}
	return requestsOf(list)
}
