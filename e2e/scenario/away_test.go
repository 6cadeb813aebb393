// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

const (
	system     = "sluice-system"
	controller = "sluice-controller"
	meshPlane  = "sluice-mesh"
)

// TestControlPlaneAway: users do not notice that for 60 s there is nothing of Sluice's control plane,
// nor that it comes back, nor that it goes for good. It is installed again at the end.
func TestControlPlaneAway(t *testing.T) {
	f := start(t, "control-plane", sampleapp.App{
		Replicas: 2, Canary: &sampleapp.Canary{Steps: steps(time.Second, 100), Drain: 10 * time.Second},
	}, 200)
	f.release("v2")
	f.expectPromoted(f.awaitRun(""))
	f.part("for a minute", f.playMinuteAway)
	f.part("for good", f.playUninstall)
}

func (f *fixture) playMinuteAway() {
	f.scale(system, controller, 0)
	f.scale(system, meshPlane, 0)
	f.linger(time.Minute)
	f.expectNoFailures()
	f.scale(system, controller, 1)
	f.scale(system, meshPlane, 1)
	f.expectNoFailures()
}

// TestControllerKilled: the controller dies without a word in every phase of a run, and what comes after
// it goes on from there. Nothing that shows happens twice. The other scenarios must bear it too.
func TestControllerKilled(t *testing.T) {
	t.Parallel()
	f := start(t, "controller-killed", sampleapp.App{
		Replicas: 2, Canary: &sampleapp.Canary{Steps: steps(2*time.Second, 50, 100), Drain: 10 * time.Second},
	}, 60)
	f.release("v2")
	for _, phase := range []v1alpha1.Phase{v1alpha1.PhaseHeld, v1alpha1.PhaseShifting, v1alpha1.PhaseHolding, v1alpha1.PhasePromoting} {
		f.await("phase "+string(phase), func(s timeline.State) bool { return s.Canary.Status.Phase == phase })
		f.kill(controller)
	}
	r := f.awaitRun("")
	f.expectPromoted(r)
	require.Equal(t, []int32{0, 50, 100}, r.weights())
	f.expectNoRepetition(r)
	require.Len(t, r.state.Runs, 1)

	f.release("v3", sampleapp.Faulty(50))
	f.await("v3 is taken back", func(s timeline.State) bool {
		return s.Canary.Status.Run != r.name && s.Canary.Status.Phase == v1alpha1.PhaseRollingBack
	})
	f.kill(controller)
	bad := f.awaitRun(r.name)
	f.expectRolledBack(bad)
	f.expectNoRepetition(bad)
	f.expectNoFailures("v3")
	f.expectFluxQuiet()
	f.expectOneOwner()
}

// expectNoRepetition: the record of a run has each phase of each weight once.
func (f *fixture) expectNoRepetition(r run) {
	f.t.Helper()
	seen := map[v1alpha1.RunEntry]bool{}
	for _, entry := range r.state.Runs[r.name].Record.Entries {
		entry.Time = metav1.Time{}
		require.False(f.t, seen[entry], "twice: %+v", entry)
		seen[entry] = true
	}
}

// kill ends the pods of one of Sluice's programs as the kernel would for want of memory.
func (f *fixture) kill(name string) {
	f.t.Helper()
	require.NoError(f.t, f.Client.DeleteAllOf(f.t.Context(), &corev1.Pod{}, client.InNamespace(system),
		client.MatchingLabels{"app.kubernetes.io/name": name}, client.GracePeriodSeconds(0)))
}

// scale takes a Deployment away or brings it back, and returns when that is done. It is back when the
// test ends.
func (f *fixture) scale(namespace, name string, replicas int32) {
	f.t.Helper()
	deployments := f.Kube.AppsV1().Deployments(namespace)
	scale := func(ctx context.Context, replicas int32) error {
		current, err := deployments.GetScale(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		current.Spec.Replicas = replicas
		_, err = deployments.UpdateScale(ctx, name, current, metav1.UpdateOptions{})
		return err
	}
	settled := func(ctx context.Context, replicas int32) bool {
		deployment, err := deployments.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false
		}
		selector := metav1.FormatLabelSelector(deployment.Spec.Selector)
		pods, err := f.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		return err == nil && len(pods.Items) == int(replicas) && deployment.Status.AvailableReplicas == replicas &&
			deployment.Status.ObservedGeneration >= deployment.Generation
	}
	require.NoError(f.t, scale(f.t.Context(), replicas))
	if replicas == 0 {
		ctx := context.WithoutCancel(f.t.Context())
		f.t.Cleanup(func() {
			assert.NoError(f.t, scale(ctx, 1))
			assert.Eventually(f.t, func() bool { return settled(ctx, 1) }, time.Minute, time.Second, "%s is back", name)
		})
	}
	require.Eventually(f.t, func() bool { return settled(f.t.Context(), replicas) }, time.Minute, 300*time.Millisecond,
		"%s has %d pods", name, replicas)
}
