// SPDX-License-Identifier: Apache-2.0

//go:build e2e && whole

package scenario

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/load/incluster"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// How many pods the autoscaler finds right for how many requests/s: one costs about 1.5 ms, and a pod is
// meant to use 50 ms a second.
const (
	restPods, calmPods, peakPods = 2, 3, 6
	restRate, calmRate, peakRate = 40, 90, 300
)

// TestBreathing: in each phase that lasts, and across those that do not, real processor load makes an
// autoscaler go from two pods to six and back to three, and neither revision is ever short of pods: no
// request fails but what the bad version answered.
func TestBreathing(t *testing.T) {
	work := "--work=1ms"
	f := start(t, "breathing", sampleapp.App{
		Replicas: restPods, Arguments: []string{work}, Autoscale: &sampleapp.Autoscale{Max: peakPods, Utilization: 500},
		Canary: &sampleapp.Canary{Steps: steps(10*time.Second, 25, 100), Drain: 10 * time.Second},
	}, 0)
	f.join(f.client("meshed", true, restRate/2), f.client("unmeshed", false, restRate/2))
	f.awaitPods(restPods)

	f.part("at rest", func() { f.breathe(func() {}) })
	f.part("at a step", func() {
		f.release("v2", work)
		f.pause(f.await("the canary has weight 25", holdingAt(25)).Canary.Status.Run)
		f.breathe(func() {})
	})
	f.part("across a promotion", func() {
		f.breathe(func() { f.pause("") })
		// Pods that were analysed may have gone since, with the load.
		require.Equal(f.t, v1alpha1.OutcomePromoted, f.awaitRun("").outcome)
	})
	promoted := f.timeline.State().Canary.Status.Run
	f.part("across a rollback", func() {
		f.breathe(func() { f.release("v3", work, sampleapp.Faulty(50)) })
		f.expectRolledBack(f.awaitRun(promoted))
	})
	f.part("while a version is rejected", func() { f.breathe(func() {}) })
	f.expectOneOwner()
}

// breathe has the load rise until there are six pods, and fall until there are three and two again. What
// happens meanwhile happens as soon as the autoscaler has begun.
func (f *fixture) breathe(meanwhile func()) {
	calm, peak := f.client("calm", true, calmRate-restRate), f.client("peak", true, peakRate-calmRate)
	f.join(calm, peak)
	f.await("the autoscaler has begun", func(s timeline.State) bool { return *s.Deployment.Spec.Replicas > restPods })
	meanwhile()
	f.awaitPods(peakPods)
	f.dismiss(peak)
	f.awaitPods(calmPods)
	f.dismiss(calm)
	f.awaitPods(restPods)
	f.expectNoFailures("v3")
}

// dismiss ends a client that has seen no failure.
func (f *fixture) dismiss(pod incluster.Pod) {
	f.t.Helper()
	f.expectNoFailures("v3")
	key := client.ObjectKey{Namespace: pod.Namespace, Name: pod.Name}
	require.NoError(f.t, f.Client.Delete(f.t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}))
	f.clients = slices.DeleteFunc(f.clients, func(other incluster.Pod) bool { return other == pod })
	require.Eventually(f.t, func() bool {
		return apierrors.IsNotFound(f.Client.Get(f.t.Context(), key, &corev1.Pod{}))
	}, time.Minute, 300*time.Millisecond, "%s has gone", pod.Name)
}

// awaitPods: the autoscaler wants so many.
func (f *fixture) awaitPods(count int32) {
	f.t.Helper()
	f.await(fmt.Sprintf("there are %d pods for the load", count), func(s timeline.State) bool {
		return *s.Deployment.Spec.Replicas == count
	})
}
