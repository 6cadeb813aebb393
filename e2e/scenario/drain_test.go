// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// TestDrain: a node is drained in the middle of a run. The disruption budget, which allows one pod at
// a time, counts the pods of both revisions and lets each of them go in its turn; no request fails and
// the run goes on to its end.
func TestDrain(t *testing.T) {
	t.Parallel()
	f := start(t, "drain", sampleapp.App{
		Replicas: 3, Disruption: &sampleapp.Disruption{MaxUnavailable: "1"},
		Canary: &sampleapp.Canary{Steps: append(steps(20*time.Second, 50), steps(10*time.Second, 100)...), Drain: 10 * time.Second},
	}, 60)

	f.release("v2")
	state := f.await("the canary has weight 50", func(s timeline.State) bool {
		return s.Canary.Status.Phase == v1alpha1.PhaseHolding && s.Canary.Status.Weight == 50
	})
	node, canary, stable := busiest(state)
	require.NotZero(t, canary, "node %s has pods of the canary", node)
	t.Logf("node %s is drained of %d pods of the canary and %d of stable", node, canary, stable)
	f.drain(node)

	r := f.awaitRun("")
	f.expectPromoted(r)
	f.expectNoFailures()
}

// busiest is the node with most pods of the canary, and how many of either revision it has.
func busiest(s timeline.State) (node string, canary, stable int) {
	r := s.LatestRun()
	canaries, stables := map[string]int{}, map[string]int{}
	for _, pod := range s.PodsOf(r.Spec.Candidate.PodTemplateHash) {
		canaries[pod.Spec.NodeName]++
	}
	for _, pod := range s.PodsOf(r.Spec.Stable.PodTemplateHash) {
		stables[pod.Spec.NodeName]++
	}
	for name, count := range canaries {
		if count > canary || (count == canary && stables[name] > stables[node]) {
			node, canary = name, count
		}
	}
	return node, canary, stables[node]
}

// drain does what kubectl drain does to a node, but only to the application's pods: the clients must
// stay. It returns when they are gone; the node takes pods again when the test ends.
func (f *fixture) drain(node string) {
	f.t.Helper()
	cordon := func(ctx context.Context, unschedulable bool) error {
		patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, unschedulable)
		_, err := f.Kube.CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		return err
	}
	ctx := context.WithoutCancel(f.t.Context())
	f.t.Cleanup(func() { assert.NoError(f.t, cordon(ctx, false)) })
	require.NoError(f.t, cordon(f.t.Context(), true))

	refused := 0
	require.EventuallyWithT(f.t, func(c *assert.CollectT) {
		pods, err := f.Kube.CoreV1().Pods(f.namespace).List(f.t.Context(), metav1.ListOptions{
			LabelSelector: "app.kubernetes.io/name=" + appName, FieldSelector: "spec.nodeName=" + node,
		})
		require.NoError(c, err)
		for _, pod := range pods.Items {
			if pod.DeletionTimestamp != nil {
				continue
			}
			switch err := f.evict(pod); {
			case apierrors.IsTooManyRequests(err):
				refused++
			default:
				assert.NoError(c, err)
			}
		}
		assert.Empty(c, pods.Items)
	}, 2*time.Minute, time.Second, "the budget lets every pod go")
	f.t.Logf("drained; %d evictions had to wait for the budget", refused)
}

func (f *fixture) evict(pod corev1.Pod) error {
	err := f.Kube.PolicyV1().Evictions(pod.Namespace).Evict(f.t.Context(), &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace},
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
