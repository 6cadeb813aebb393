// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

func registerPlayers(mgr manager.Manager, m *mesh) error {
	for _, player := range []struct {
		object client.Object
		plays  func(context.Context, client.ObjectKey) error
		name   string
	}{
		{&appsv1.Deployment{}, deploymentPlayer(mgr.GetClient()), "deployments"},
		{&appsv1.ReplicaSet{}, setPlayer(mgr.GetClient()), "replicasets"},
		{&v1alpha1.TrafficSplit{}, m.look, "mesh"},
	} {
		plays := reconcile.Func(func(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
			err := player.plays(ctx, request.NamespacedName)
			if apierrors.IsConflict(err) {
				return ctrl.Result{RequeueAfter: time.Millisecond}, nil
			}
			return ctrl.Result{}, client.IgnoreNotFound(err)
		})
		if err := ctrl.NewControllerManagedBy(mgr).Named(player.name).For(player.object).
			WithOptions(controller.Options{MaxConcurrentReconciles: 4}).Complete(plays); err != nil {
			return err
		}
	}
	return nil
}

// deploymentPlayer reports a Deployment's rollout as done.
func deploymentPlayer(c client.Client) func(context.Context, client.ObjectKey) error {
	return func(ctx context.Context, key client.ObjectKey) error {
		d := &appsv1.Deployment{}
		if err := c.Get(ctx, key, d); err != nil || d.Status.ObservedGeneration == d.Generation {
			return err
		}
		before, n := d.DeepCopy(), *d.Spec.Replicas
		d.Status = appsv1.DeploymentStatus{
			ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n,
		}
		return c.Status().Patch(ctx, d, client.MergeFrom(before))
	}
}

// setPlayer reports all of a ReplicaSet's pods as ready.
func setPlayer(c client.Client) func(context.Context, client.ObjectKey) error {
	return func(ctx context.Context, key client.ObjectKey) error {
		rs := &appsv1.ReplicaSet{}
		if err := c.Get(ctx, key, rs); err != nil || rs.Status.ObservedGeneration == rs.Generation {
			return err
		}
		before, n := rs.DeepCopy(), *rs.Spec.Replicas
		rs.Status = appsv1.ReplicaSetStatus{
			ObservedGeneration: rs.Generation, Replicas: n, FullyLabeledReplicas: n, ReadyReplicas: n, AvailableReplicas: n,
		}
		return c.Status().Patch(ctx, rs, client.MergeFrom(before))
	}
}

// mesh acknowledges each generation of a split at once, for two proxies, and lets traffic flow by it.
type mesh struct {
	client   client.Client
	exporter *exporter

	lock sync.Mutex
	// arrivals are told when the canary has got weight in force, retreats when it has none any more.
	arrivals, retreats map[client.ObjectKey]chan time.Time
}

func newMesh(c client.Client, e *exporter) *mesh {
	return &mesh{client: c, exporter: e, arrivals: map[client.ObjectKey]chan time.Time{}, retreats: map[client.ObjectKey]chan time.Time{}}
}

// retreat is told once when the canary of a workload has lost its traffic.
func (m *mesh) retreat(key client.ObjectKey) <-chan time.Time { return m.expect(m.retreats, key) }

// arrival is told once when the canary of a workload has got traffic.
func (m *mesh) arrival(key client.ObjectKey) <-chan time.Time { return m.expect(m.arrivals, key) }

func (m *mesh) expect(told map[client.ObjectKey]chan time.Time, key client.ObjectKey) <-chan time.Time {
	m.lock.Lock()
	defer m.lock.Unlock()
	told[key] = make(chan time.Time, 1)
	return told[key]
}

func (m *mesh) look(ctx context.Context, key client.ObjectKey) error {
	split := &v1alpha1.TrafficSplit{}
	if err := m.client.Get(ctx, key, split); err != nil {
		if apierrors.IsNotFound(err) {
			m.exporter.stop(key)
		}
		return err
	}
	if split.Status.ObservedGeneration == split.Generation {
		return nil
	}
	before := split.DeepCopy()
	split.Status.ObservedGeneration = split.Generation
	split.Status.Proxies = v1alpha1.ProxyCounts{Carrying: 2, Acknowledged: 2}
	split.Status.Revisions = nil
	flow := flow{}
	for _, part := range split.Spec.Revisions {
		split.Status.Revisions = append(split.Status.Revisions, v1alpha1.RevisionOpen{PodTemplateHash: part.PodTemplateHash})
		if part.Name == v1alpha1.RevisionCanary {
			flow.canary, flow.share = part.PodTemplateHash, float64(part.Weight)/float64(split.Spec.TotalWeight)
		} else {
			flow.stable = part.PodTemplateHash
		}
	}
	m.exporter.let(key, flow)
	if err := m.client.Status().Patch(ctx, split, client.MergeFrom(before)); err != nil {
		return err
	}
	told := m.retreats
	if flow.share > 0 {
		told = m.arrivals
	}
	m.lock.Lock()
	defer m.lock.Unlock()
	if waiting := told[key]; waiting != nil {
		waiting <- time.Now()
		delete(told, key)
	}
	return nil
}
