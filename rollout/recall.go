// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// A run is looked at with each scrape, and mostly nothing has happened. Such a look reads nothing: it takes
// the objects of the last one, as the answers to its own writes have left them, and of those only what
// the watches call newer is read again. A ReplicaSet that was made or deleted is asked for until the watch
// and the memory agree about it, so an own write is seen however late the watch is. Runs are not watched:
// hardly anybody else may write them.
//
// Nothing is done on the word of a watch. A decision that has an effect, tells something or goes on to
// another phase, step or weight is made again on what the API server says now, and only that one is
// carried out: no write is fenced by less than it would be without a memory. A late watch makes a look
// late, and so long as trust at most.

// trust is how long a watch is believed that says nothing. A connection that broke is noticed sooner, by
// the pings of HTTP/2; 500 runs that are read anew after each such time are 25 reads a second.
const trust = 2 * time.Minute

// scenes has the last scene of each Canary that is in a run. A scene is one worker's at a time.
type scenes struct {
	mutex sync.Mutex
	kept  map[types.NamespacedName]*scene
}

// take a scene out: whoever fails to put it back has it read anew.
func (s *scenes) take(key types.NamespacedName) *scene {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	last := s.kept[key]
	delete(s.kept, key)
	return last
}

// put a scene in. Records of runs that have ended may be long, and only who acts may need them.
func (s *scenes) put(key types.NamespacedName, last *scene) {
	for i := range last.Runs {
		if run := &last.Runs[i]; run.Record.EndedAt != nil && run.Name != last.canary.Status.Run {
			run.Record.Entries = nil
		}
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.kept == nil {
		s.kept = map[types.NamespacedName]*scene{}
	}
	s.kept[key] = last
}

// recall is a reader that answers from the last scene where the watches know nothing newer, and asks the
// API server about the rest.
type recall struct {
	client.Reader
	watched client.Reader
	last    *scene
	// owner is the Deployment's UID, and sets what belongs to it; read once for both selectors.
	owner types.UID
	sets  []appsv1.ReplicaSet
}

// Get implements client.Reader.
func (r *recall) Get(ctx context.Context, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
	switch into := into.(type) {
	case *appsv1.Deployment:
		return r.deployment(ctx, key, into)
	case *v1alpha1.TrafficSplit:
		if known, err := r.split(ctx, key, into); known {
			return err
		}
	}
	return r.Reader.Get(ctx, key, into, opts...)
}

// List implements client.Reader.
func (r *recall) List(ctx context.Context, into client.ObjectList, opts ...client.ListOption) error {
	switch into := into.(type) {
	case *appsv1.ReplicaSetList:
		if r.sets == nil {
			found, err := r.gather(ctx)
			if err != nil {
				return err
			}
			r.sets = found
		}
		into.Items = selected(r.sets, (&client.ListOptions{}).ApplyOptions(opts))
		return nil
	case *v1alpha1.CanaryRunList:
		into.Items = slices.Clone(r.last.Runs)
		return nil
	}
	return r.Reader.List(ctx, into, opts...)
}

// deployment is read again unless the watch knows it, and no newer version of it.
func (r *recall) deployment(ctx context.Context, key client.ObjectKey, into *appsv1.Deployment) error {
	kept, version := r.last.deployment, &metav1.PartialObjectMetadata{}
	version.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("Deployment"))
	if kept != nil && r.watched.Get(ctx, key, version) == nil && covers(kept, version) {
		*into = *kept
	} else if err := r.Reader.Get(ctx, key, into); err != nil {
		return err
	}
	r.owner = into.UID
	return nil
}

// split is watched whole. It says whether the watch and the memory agree that there is one or none.
func (r *recall) split(ctx context.Context, key client.ObjectKey, into *v1alpha1.TrafficSplit) (bool, error) {
	kept, watched := r.last.split, &v1alpha1.TrafficSplit{}
	err := r.watched.Get(ctx, key, watched)
	switch {
	case apierrors.IsNotFound(err):
		return kept == nil, err
	case err != nil || kept == nil || kept.UID != watched.UID:
		return false, err
	case covers(kept, watched):
		*into = *kept
	default:
		*into = *watched
	}
	return true, nil
}

// gather the Deployment's ReplicaSets: those that the watch has and those that were there before, each in
// its newest version.
func (r *recall) gather(ctx context.Context) ([]appsv1.ReplicaSet, error) {
	namespace := r.last.canary.Namespace
	listed := &metav1.PartialObjectMetadataList{}
	listed.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ReplicaSetList"))
	if err := r.watched.List(ctx, listed, client.InNamespace(namespace), client.MatchingFields{fieldOwner: string(r.owner)}); err != nil {
		return nil, fmt.Errorf("list versions of replicasets: %w", err)
	}
	found, unclear := []appsv1.ReplicaSet{}, map[string]bool{}
	for name := range r.last.sets {
		unclear[name] = true
	}
	for i := range listed.Items {
		name := listed.Items[i].Name
		if kept := r.last.sets[name]; kept != nil && covers(kept, &listed.Items[i]) {
			found = append(found, *kept)
			delete(unclear, name)
		} else {
			unclear[name] = true
		}
	}
	for name := range unclear {
		var rs appsv1.ReplicaSet
		switch err := r.Reader.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &rs); {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, fmt.Errorf("read replicaset %s: %w", name, err)
		default:
			found = append(found, rs)
		}
	}
	slices.SortFunc(found, func(a, b appsv1.ReplicaSet) int { return cmp.Compare(a.Name, b.Name) }) // as the API server does
	return found, nil
}

// selected are those that a list's selector finds.
func selected(all []appsv1.ReplicaSet, options *client.ListOptions) []appsv1.ReplicaSet {
	return slices.DeleteFunc(slices.Clone(all), func(rs appsv1.ReplicaSet) bool {
		return options.LabelSelector != nil && !options.LabelSelector.Matches(labels.Set(rs.Labels))
	})
}

// covers: what was kept is the same object as the watch has, and no older.
func covers(kept, watched client.Object) bool {
	order, err := resourceversion.CompareResourceVersion(kept.GetResourceVersion(), watched.GetResourceVersion())
	return err == nil && kept.GetUID() == watched.GetUID() && order >= 0
}

// recalled looks at a Canary by what is remembered of it; nil when that will not do, as when somebody
// has written to it: that is a request, and answered soonest by reading all at once.
func (r *Reconciler) recalled(ctx context.Context, key types.NamespacedName) (*scene, error) {
	last, canary := r.scenes.take(key), &v1alpha1.Canary{}
	if last == nil || r.clock.Since(last.readAt) >= trust {
		return nil, nil
	}
	if err := r.watched.Get(ctx, key, canary); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read canary %s from the watch: %w", key, err)
	}
	if !covers(last.canary, canary) {
		return nil, nil
	}
	eyes := observer{reader: &recall{Reader: r.reader, watched: r.watched, last: last}, cached: r.observer.cached}
	seen, err := eyes.observe(ctx, last.canary)
	if err != nil {
		return nil, err
	}
	seen.readAt = last.readAt
	return seen, nil
}

// whole reads a Canary and its surroundings from the API server; nil when it is gone.
func (r *Reconciler) whole(ctx context.Context, key types.NamespacedName) (*scene, error) {
	at, canary := r.clock.Now(), &v1alpha1.Canary{}
	if err := r.reader.Get(ctx, key, canary); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	seen, err := r.observer.observe(ctx, canary)
	if err != nil {
		return nil, err
	}
	seen.readAt = at
	return seen, nil
}

// acts: a decision does, tells or changes more than what the gate has counted and how the Canary stands.
func acts(before *v1alpha1.CanaryStatus, decision *Decision) bool {
	return len(decision.Effects) > 0 || len(decision.Events) > 0 || !sameButCounts(before, &decision.Status)
}
