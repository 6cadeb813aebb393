// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// publishInterval is the least time between two Indexes: a burst of changes costs one. The first
// change after it is published at once.
const publishInterval = 50 * time.Millisecond

// +kubebuilder:rbac:groups="",resources=services;pods;namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups=apps,resources=replicasets,verbs=get;list;watch
// +kubebuilder:rbac:groups=sluice.dev,resources=trafficsplits;trafficpolicies;accesspolicies;ratelimits,verbs=get;list;watch

// replicaSetMetadata is how ReplicaSets are watched: their owners are all that is read.
func replicaSetMetadata() *metav1.PartialObjectMetadata {
	metadata := &metav1.PartialObjectMetadata{}
	metadata.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind(kindReplicaSet))
	return metadata
}

// namespaceMetadata is how namespaces are watched, as the injector does.
func namespaceMetadata() *metav1.PartialObjectMetadata {
	metadata := &metav1.PartialObjectMetadata{}
	metadata.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	return metadata
}

// watcher keeps the objects that discovery reads.
type watcher struct {
	log logr.Logger
	// dirty has one element when something has changed since the last Index.
	dirty          chan struct{}
	services       *collection[*corev1.Service]
	endpointSlices *collection[*discoveryv1.EndpointSlice]
	pods           *collection[*corev1.Pod]
	replicaSets    *collection[*metav1.PartialObjectMetadata]
	trafficSplits  *collection[*v1alpha1.TrafficSplit]
	policies       *collection[*v1alpha1.TrafficPolicy]
	accessPolicies *collection[*v1alpha1.AccessPolicy]
	rateLimits     *collection[*v1alpha1.RateLimit]
	namespaces     *collection[*metav1.PartialObjectMetadata]
}

func newWatcher(log logr.Logger) *watcher {
	w := &watcher{log: log, dirty: make(chan struct{}, 1)}
	w.services = newCollection[*corev1.Service](w.changed, nil)
	w.endpointSlices = newCollection[*discoveryv1.EndpointSlice](w.changed, nil)
	w.pods = newCollection(w.changed, samePod)
	w.replicaSets = newCollection[*metav1.PartialObjectMetadata](w.changed, nil)
	w.trafficSplits = newCollection(w.changed, sameTrafficSplit)
	w.policies = newCollection[*v1alpha1.TrafficPolicy](w.changed, nil)
	w.accessPolicies = newCollection[*v1alpha1.AccessPolicy](w.changed, nil)
	w.rateLimits = newCollection[*v1alpha1.RateLimit](w.changed, nil)
	w.namespaces = newCollection(w.changed, sameNamespace)
	return w
}

func (w *watcher) changed() {
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}

func (w *watcher) inputs() Inputs {
	return Inputs{
		Services:       w.services.list(),
		EndpointSlices: w.endpointSlices.list(),
		Pods:           w.pods.list(),
		ReplicaSets:    w.replicaSets.list(),
		TrafficSplits:  w.trafficSplits.list(),

		TrafficPolicies: w.policies.list(),
		AccessPolicies:  w.accessPolicies.list(),
		RateLimits:      w.rateLimits.list(),
		Namespaces:      w.namespaces.list(),
	}
}

// run calls publish with the state of the cluster, first when all of it has been seen and then
// after each change, until the context ends.
func (w *watcher) run(ctx context.Context, reads cache.Cache, publish func(Inputs)) error {
	var synced []toolscache.InformerSynced
	for _, one := range []struct {
		object  client.Object
		handler toolscache.ResourceEventHandler
	}{
		{&corev1.Service{}, w.services},
		{&discoveryv1.EndpointSlice{}, w.endpointSlices},
		{&corev1.Pod{}, w.pods},
		{replicaSetMetadata(), w.replicaSets},
		{&v1alpha1.TrafficSplit{}, w.trafficSplits},
		{&v1alpha1.TrafficPolicy{}, w.policies},
		{&v1alpha1.AccessPolicy{}, w.accessPolicies},
		{&v1alpha1.RateLimit{}, w.rateLimits},
		{namespaceMetadata(), w.namespaces},
	} {
		informer, err := reads.GetInformer(ctx, one.object)
		if isPolicy(one.object) && meta.IsNoMatchError(err) {
			// Definitions may be older than this program; without the kind nobody can have written one.
			w.log.Error(err, "policies are not watched: install their definition and restart")
			continue
		}
		if err != nil {
			return fmt.Errorf("watch %T: %w", one.object, err)
		}
		registration, err := informer.AddEventHandler(one.handler)
		if err != nil {
			return fmt.Errorf("watch %T: %w", one.object, err)
		}
		defer func() { _ = informer.RemoveEventHandler(registration) }() // Fails only when the informer has stopped.
		synced = append(synced, registration.HasSynced)
	}
	if toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		w.changed()
		w.publishChanges(ctx, publish)
	}
	return nil
}

func isPolicy(object client.Object) bool {
	switch object.(type) {
	case *v1alpha1.TrafficPolicy, *v1alpha1.AccessPolicy, *v1alpha1.RateLimit:
		return true
	}
	return false
}

func (w *watcher) publishChanges(ctx context.Context, publish func(Inputs)) {
	pace := time.NewTicker(publishInterval)
	defer pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.dirty:
		}
		publish(w.inputs())
		pace.Reset(publishInterval)
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
	}
}

// collection keeps the objects of one kind as an informer shows them.
type collection[T client.Object] struct {
	changed func()
	// same says that a change does not concern discovery; nil when all do.
	same func(before, after T) bool

	mu      sync.Mutex
	objects map[string]T
}

func newCollection[T client.Object](changed func(), same func(before, after T) bool) *collection[T] {
	return &collection[T]{changed: changed, same: same, objects: map[string]T{}}
}

func (c *collection[T]) list() []T {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.objects))
}

// OnAdd is called for each object that is there or comes.
func (c *collection[T]) OnAdd(object any, _ bool) { c.put(object) }

// OnUpdate is called for each change, and now and then without one.
func (c *collection[T]) OnUpdate(_, object any) { c.put(object) }

// OnDelete is called for each object that goes.
func (c *collection[T]) OnDelete(object any) {
	if unknown, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	gone, ok := object.(T)
	if !ok {
		return
	}
	c.mu.Lock()
	delete(c.objects, keyOf(gone))
	c.mu.Unlock()
	c.changed()
}

func (c *collection[T]) put(object any) {
	fresh, ok := object.(T)
	if !ok {
		return
	}
	c.mu.Lock()
	before, known := c.objects[keyOf(fresh)]
	c.objects[keyOf(fresh)] = fresh
	c.mu.Unlock()
	unchanged := known && (before.GetResourceVersion() == fresh.GetResourceVersion() || c.same != nil && c.same(before, fresh))
	if !unchanged {
		c.changed()
	}
}

// sameTrafficSplit: statuses are our own writing.
func sameTrafficSplit(before, after *v1alpha1.TrafficSplit) bool {
	return before.UID == after.UID && before.Generation == after.Generation
}

// sameNamespace compares what access reads, which keepNamespace has left.
func sameNamespace(before, after *metav1.PartialObjectMetadata) bool {
	return before.Annotations[v1alpha1.AnnotationDefaultAccess] == after.Annotations[v1alpha1.AnnotationDefaultAccess]
}

// samePod holds for what kubelets write all the time. It compares what keepPod has left.
func samePod(before, after *corev1.Pod) bool {
	return before.UID == after.UID &&
		equality.Semantic.DeepEqual(before.Labels, after.Labels) &&
		equality.Semantic.DeepEqual(before.DeletionTimestamp, after.DeletionTimestamp) &&
		equality.Semantic.DeepEqual(before.OwnerReferences, after.OwnerReferences) &&
		equality.Semantic.DeepEqual(before.Spec, after.Spec) &&
		equality.Semantic.DeepEqual(before.Status, after.Status)
}
