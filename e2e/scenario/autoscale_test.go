// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// TestAutoscale: an autoscaler that sees real processor load in the middle of a run scales stable,
// the canary follows, and the run goes on to its end. Nobody takes away what the autoscaler gave.
func TestAutoscale(t *testing.T) {
	t.Parallel()
	const least, most = 2, 4
	// A request costs about 1.5 ms, so the first 40 requests/s need 3 % of a processor in each of two
	// pods, and 200 more than four times 5 %, which is the target: 500 % of the 10m that pods ask for.
	work := "--work=1ms"
	f := start(t, "autoscale", sampleapp.App{
		Replicas: least, Arguments: []string{work}, Autoscale: &sampleapp.Autoscale{Max: most, Utilization: 500},
		Canary: &sampleapp.Canary{Steps: append(steps(25*time.Second, 25), steps(5*time.Second, 100)...), Drain: 10 * time.Second},
	}, 0)
	f.join(f.client("meshed", true, 20), f.client("unmeshed", false, 20))
	f.await("the autoscaler is content", func(s timeline.State) bool { return available(s.Deployment) && *s.Deployment.Spec.Replicas == least })

	f.release("v2", work)
	f.await("the canary has weight 25", func(s timeline.State) bool { return s.Canary.Status.Weight == 25 })
	f.join(f.client("surge", true, 160))

	scaled := f.await("the autoscaler has scaled the workload, and both revisions have followed", func(s timeline.State) bool {
		r := s.LatestRun()
		return *s.Deployment.Spec.Replicas == most && len(s.UIDs(r.Spec.Candidate.PodTemplateHash)) == most &&
			len(s.UIDs(r.Spec.Stable.PodTemplateHash)) == most
	})
	require.Empty(t, scaled.LatestRun().Record.Outcome, "it is in the middle of the run")

	r := f.awaitRun("")
	f.expectPromoted(r)
	require.Len(t, r.analysed, most)
	require.EqualValues(t, most, *f.timeline.State().Deployment.Spec.Replicas)
	f.expectNoFailures()
	f.expectOneOwner()
}
