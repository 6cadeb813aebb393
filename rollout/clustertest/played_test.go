// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// mesh plays the mesh's part of a TrafficSplit: two proxies that acknowledge at once, unless told not
// to, and a log of all weights that were in force.
type mesh struct {
	client client.Client

	lock sync.Mutex
	deaf bool
	open map[string]int64
	// weights are the canary's, in the order in which they were acknowledged.
	weights []int32
	// logged is the generation of each split that was logged last; the cache may show it again.
	logged map[types.UID]int64
}

func (m *mesh) register(mgr ctrl.Manager) error {
	m.client = mgr.GetClient()
	return ctrl.NewControllerManagedBy(mgr).Named("mesh").For(&v1alpha1.TrafficSplit{}).Complete(m)
}

func (m *mesh) set(change func(*mesh)) {
	m.lock.Lock()
	defer m.lock.Unlock()
	change(m)
}

func (m *mesh) seen() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	return append([]int32(nil), m.weights...)
}

func (m *mesh) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	split := &v1alpha1.TrafficSplit{}
	if err := m.client.Get(ctx, request.NamespacedName, split); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	m.lock.Lock()
	defer m.lock.Unlock()
	before := split.DeepCopy()
	split.Status.ObservedGeneration = split.Generation
	split.Status.Proxies = v1alpha1.ProxyCounts{Carrying: 2, Acknowledged: 2}
	if m.deaf {
		split.Status.Proxies = v1alpha1.ProxyCounts{Carrying: 2, Acknowledged: 1, Laggards: []string{"shop/laggard"}}
	}
	split.Status.Revisions = nil
	for _, part := range split.Spec.Revisions {
		split.Status.Revisions = append(split.Status.Revisions, v1alpha1.RevisionOpen{PodTemplateHash: part.PodTemplateHash, Requests: m.open[part.PodTemplateHash]})
		if part.Name == v1alpha1.RevisionCanary && !m.deaf && m.logged[split.UID] < split.Generation {
			m.weights = append(m.weights, part.Weight)
			m.logged[split.UID] = split.Generation
		}
	}
	err := m.client.Status().Patch(ctx, split, client.MergeFrom(before))
	return ctrl.Result{RequeueAfter: interval}, client.IgnoreNotFound(err)
}

// gate plays Prometheus: a busy workload with an error rate.
type gate struct {
	lock sync.Mutex
	// errors per thousand requests of the canary.
	errors uint64
	// silent gives no rounds; away gives an error.
	silent, away bool
	asked        int
}

func (g *gate) set(change func(*gate)) {
	g.lock.Lock()
	defer g.lock.Unlock()
	change(g)
}

func (g *gate) Rounds(_ context.Context, query analysis.Query) ([]analysis.Round, error) {
	g.lock.Lock()
	defer g.lock.Unlock()
	g.asked++
	if g.away {
		return nil, errors.New("connection refused")
	}
	var rounds []analysis.Round
	const length = 100 * time.Millisecond
	for end := query.Since.Add(length); !g.silent && !end.After(query.Now); end = end.Add(length) {
		rounds = append(rounds, analysis.Round{
			End:    end,
			Canary: analysis.Counts{Requests: 1000, Errors: g.errors},
			Stable: analysis.Counts{Requests: 1000},
		})
	}
	return rounds, nil
}
