// SPDX-License-Identifier: Apache-2.0

// Package timeline watches one workload under a Canary and keeps what happened to it with the
// moment at which it was seen: phases, weights and their acknowledgement, runs, pods. The demo's
// table and the scenarios' expectations read it.
//
// It must not change anything, and must not know how a run is supposed to go.
package timeline

import (
	"context"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// LabelHash is the label by which a pod's revision is known.
const LabelHash = appsv1.DefaultDeploymentUniqueLabelKey

// Scheme knows Kubernetes' kinds and ours.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := clientscheme.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register Kubernetes' kinds: %w", err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register Sluice's kinds: %w", err)
	}
	return scheme, nil
}

// Timeline is being written while the watch lasts.
type Timeline struct {
	namespace, name string

	mu      sync.Mutex
	state   State
	changed chan struct{} // closed at each change and replaced
}

// Watch begins a timeline of the workload and Canary of one name. It ends with ctx.
func Watch(ctx context.Context, config *rest.Config, namespace, name string) (*Timeline, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	objects, err := cache.New(config, cache.Options{Scheme: scheme, DefaultNamespaces: map[string]cache.Config{namespace: {}}})
	if err != nil {
		return nil, fmt.Errorf("watch %s/%s: %w", namespace, name, err)
	}
	t := &Timeline{namespace: namespace, name: name, changed: make(chan struct{})}
	for _, kind := range []client.Object{
		&v1alpha1.Canary{}, &v1alpha1.CanaryRun{}, &v1alpha1.TrafficSplit{}, &appsv1.Deployment{}, &corev1.Pod{},
	} {
		informer, err := objects.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watch %T: %w", kind, err)
		}
		if _, err := informer.AddEventHandler(t.handler()); err != nil {
			return nil, fmt.Errorf("watch %T: %w", kind, err)
		}
	}
	go func() {
		// An error here is one of starting twice.
		_ = objects.Start(ctx)
	}()
	if !objects.WaitForCacheSync(ctx) {
		return nil, fmt.Errorf("watch %s/%s: %w", namespace, name, context.Cause(ctx))
	}
	return t, nil
}

func (t *Timeline) handler() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { t.record(object, false) },
		UpdateFunc: func(_, object any) { t.record(object, false) },
		DeleteFunc: func(object any) {
			if tombstone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
				object = tombstone.Obj
			}
			t.record(object, true)
		},
	}
}

func (t *Timeline) record(object any, deleted bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state = t.state.after(object, deleted, t.name, time.Now())
	close(t.changed)
	t.changed = make(chan struct{})
}

// State is what is known now.
func (t *Timeline) State() State {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

// Await returns the first state that a function holds of, looking at each one from now on.
func (t *Timeline) Await(ctx context.Context, holds func(State) bool) (State, error) {
	for {
		t.mu.Lock()
		state, changed := t.state, t.changed
		t.mu.Unlock()
		if holds(state) {
			return state, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return t.State(), fmt.Errorf("watch %s/%s: %w; it stands at %s", t.namespace, t.name, context.Cause(ctx), t.State().Describe())
		}
	}
}
