// SPDX-License-Identifier: Apache-2.0

//go:build e2e && whole

package scenario

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// TestControllerManagerAway: kube-controller-manager, which is who acts on a Deployment, stops in the
// midst of each way of handing over, and comes back half a minute later. Nothing is lost meanwhile, and
// what had begun is brought to its end.
func TestControllerManagerAway(t *testing.T) {
	f := start(t, "manager-away", sampleapp.App{
		Replicas: 3, Canary: &sampleapp.Canary{Steps: steps(2*time.Second, 50, 100), Drain: 10 * time.Second},
	}, leastRate)
	f.part("a promotion", func() { f.expectPromoted(f.playManagerAway("v2", v1alpha1.PhasePromoting)) })
	f.part("a rollback", func() {
		f.expectRolledBack(f.playManagerAway("v3", v1alpha1.PhaseRollingBack, sampleapp.Faulty(50)))
	})
	f.part("a return", func() {
		f.revert()
		f.await("the Canary rests", resting)
		f.expectPromoted(f.playManagerAway("v1", v1alpha1.PhasePromoting))
	})
	f.expectNoFailures("v3")
	f.expectOneOwner()
}

// playManagerAway releases a version and returns its run, in a phase of which the manager was away.
func (f *fixture) playManagerAway(version string, phase v1alpha1.Phase, arguments ...string) run {
	f.t.Helper()
	before := f.timeline.State().Canary.Status.Run
	f.release(version, arguments...)
	f.await(version+" is "+string(phase), func(s timeline.State) bool {
		return s.Canary.Status.Run != before && s.Canary.Status.Phase == phase
	})
	resume, err := f.Cluster.Halt(f.t.Context(), "kube-controller-manager")
	require.NoError(f.t, err)
	back := false
	f.t.Cleanup(func() {
		if !back {
			assert.NoError(f.t, resume(context.WithoutCancel(f.t.Context())))
		}
	})
	f.passed("kube-controller-manager is away")
	f.linger(30 * time.Second)
	f.expectNoFailures("v3")
	require.NoError(f.t, resume(f.t.Context()))
	back = true
	f.passed("kube-controller-manager is back")
	return f.awaitRun(before)
}
