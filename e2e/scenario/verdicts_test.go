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

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// badTimes is how often a bad version is released.
const badTimes = 20

// TestBadCanaryAgainAndAgain: a version that fails half of about 50 requests a second is taken back, each
// of 20 times, and the log says how soon.
func TestBadCanaryAgainAndAgain(t *testing.T) {
	f := start(t, "bad-again", sampleapp.App{
		Replicas: 3, Canary: &sampleapp.Canary{Steps: steps(time.Minute, 17, 100), Drain: 5 * time.Second},
	}, leastRate)
	var took []time.Duration
	var versions []string
	last := ""
	for i := range badTimes {
		version := fmt.Sprintf("bad-%d", i+1)
		versions = append(versions, version)
		f.release(version, sampleapp.Faulty(50))
		r := f.awaitRun(last)
		f.expectRolledBack(r)
		exposed, ended := r.state.TimeToZero(r.revision)
		require.True(t, ended)
		took, last = append(took, exposed), r.name
		f.revert()
		f.await("stable's template is back", resting)
	}
	f.expectNoFailures(versions...)
	slices.Sort(took)
	t.Logf("from the first weight to none that all proxies run, %d times: p50 %v, p95 %v, max %v", badTimes, took[badTimes/2-1], took[badTimes*95/100-1], took[badTimes-1])
}

// TestSmallFaults: what is little worse is found before it has half of the traffic: one request in a
// hundred more that fails, and a 99th percentile that is half as long again, both within the objectives.
func TestSmallFaults(t *testing.T) {
	// A tenth of the requests takes from 20 to 380 ms: the 99th percentile is 344 ms, and 516 ms with half as much again.
	slow := func(usual time.Duration) []string {
		return append(sampleapp.Slow(10, usual), "--fault-delay-spread=0.9")
	}
	for name, c := range map[string]struct{ stable, canary []string }{
		"one-percent": {nil, []string{sampleapp.Faulty(1)}},
		"slower-tail": {slow(200 * time.Millisecond), slow(300 * time.Millisecond)},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, "small-"+name, sampleapp.App{
				Replicas: 4, Arguments: c.stable,
				Canary: &sampleapp.Canary{Steps: steps(30*time.Second, 5, 10, 25, 50, 100), Drain: 5 * time.Second},
			}, leastRate)
			f.release("v2", c.canary...)
			r := f.awaitRun("")
			f.expectRolledBack(r)
			for _, weight := range r.weights() {
				require.Less(t, weight, int32(50))
			}
			f.expectNoFailures("v2")
		})
	}
}

// TestOneBadPodOfFour: that all failures of a canary are one pod's, which answers them at once, hides
// nothing: it is taken back as the same share spread over all is.
func TestOneBadPodOfFour(t *testing.T) {
	canary := &sampleapp.Canary{Strategy: []string{
		"steps:", "- weight: 25", "  hold: 1m", "  replicas: 4", "- weight: 100",
	}, Drain: 5 * time.Second}
	took := map[string]time.Duration{}
	for _, way := range []string{"spread", "one-pod"} {
		f := start(t, "four-"+way, sampleapp.App{Replicas: 4, Canary: canary}, leastRate)
		var begins time.Time
		if way == "spread" {
			f.release("v2", sampleapp.Faulty(25))
			begins = shifted(f.await("the canary has weight", holdingAt(25)), 25)
		} else {
			f.release("v2")
			state := f.await("the canary has weight", holdingAt(25))
			for _, pod := range state.PodsOf(state.LatestRun().Spec.Candidate.PodTemplateHash) {
				begins = f.fail(pod)
				break
			}
		}
		r := f.awaitRun("")
		f.expectRolledBack(r)
		took[way] = shifted(r.state, 0).Sub(begins)
		f.expectNoFailures("v2")
	}
	t.Logf("from the first failure to no weight: %v", took)
}

// fail makes one pod answer every request with an error, and says since when. What comes from outside the
// mesh follows the weights, so it is told until it hears.
func (f *fixture) fail(pod *corev1.Pod) (begins time.Time) {
	f.t.Helper()
	require.Eventually(f.t, func() bool {
		begins = time.Now()
		return nil == f.Kube.CoreV1().RESTClient().Put().Namespace(pod.Namespace).Resource("pods").SubResource("proxy").
			Name(pod.Name+":9898").Suffix("faults").Param("pod", pod.Name).Param("error-percent", "100").Do(f.t.Context()).Error()
	}, time.Minute, 50*time.Millisecond, "pod %s is told to fail", pod.Name)
	return begins
}

// shifted is when a weight was last acknowledged.
func shifted(s timeline.State, weight int32) (at time.Time) {
	for _, shift := range s.Shifts {
		if shift.Weight == weight && shift.Acknowledged {
			at = shift.At
		}
	}
	return at
}

// TestHardlyAnyRequests: at one request in two seconds a good canary is neither promoted blindly nor taken
// back, and says what it waits for.
func TestHardlyAnyRequests(t *testing.T) {
	f := start(t, "hardly-any", sampleapp.App{
		Replicas: 2, Canary: &sampleapp.Canary{Steps: steps(5*time.Second, 50, 100), Drain: 5 * time.Second},
	}, 0)
	f.join(f.client("meshed", true, 1))
	f.release("v2")
	f.await("the canary has weight 50", holdingAt(50))
	f.linger(time.Minute)
	now := f.timeline.State()
	require.True(t, holdingAt(50)(now), now.Describe())
	require.Equal(t, string(analysis.VerdictWait), now.Canary.Status.Verdict.Verdict)
	require.Regexp(t, `\d+ requests?`, now.Canary.Status.Verdict.Reason)
	t.Logf("after a minute: %s", now.Describe())
	require.Equal(t, v1alpha1.Outcome(""), now.LatestRun().Record.Outcome)
	f.expectNoFailures()
}
