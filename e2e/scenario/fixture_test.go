// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/flux"
	"github.com/sluice-mesh/sluice/e2e/gitserver"
	"github.com/sluice-mesh/sluice/e2e/load"
	"github.com/sluice-mesh/sluice/e2e/load/incluster"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

const (
	author  = "Ada Test <ada@example.com>"
	appName = "podinfo"
	// patience is how long a scenario waits for anything that must happen by itself.
	patience = 3 * time.Minute
)

// fixture is one scenario's part of the bed.
type fixture struct {
	*bed
	t         *testing.T
	namespace string
	app       sampleapp.App
	timeline  *timeline.Timeline
	clients   []incluster.Pod
	// commits are those made so far with the moment before each.
	commits []commit
	began   time.Time
}

type commit struct {
	at   time.Time
	hash string
}

// steps are short, so that the suite is.
func steps(hold time.Duration, weights ...int) []sampleapp.Step {
	var out []sampleapp.Step
	for _, weight := range weights {
		out = append(out, sampleapp.Step{Weight: weight, Hold: hold})
	}
	return out
}

// tolerable is the latency objective of scenarios that are not about latency: where two processors carry
// two nodes and another scenario, a stall of half a second is no fault of the canary's.
const tolerable = 2 * time.Second

// quick is the Canary that scenarios use unless they are about its fields.
func quick() *sampleapp.Canary {
	return &sampleapp.Canary{Steps: steps(4*time.Second, 10, 25, 50, 100), Drain: 10 * time.Second}
}

// bold is one that comes to its verdicts sooner, for scenarios that are about what follows from them.
func bold() *sampleapp.Canary {
	return &sampleapp.Canary{Steps: steps(4*time.Second, 25, 50, 100), Drain: 10 * time.Second}
}

// start brings up an application at v1 in a namespace named after the test's purpose, under Flux, and
// a meshed and an unmeshed client that send it rate requests/s in all, unless that is 0. Everything is
// removed when the test ends.
func start(t *testing.T, namespace string, app sampleapp.App, rate int) *fixture {
	t.Helper()
	require.NotNil(t, shared, "TestMain has set the stage")
	app.Name, app.Namespace, app.Version = appName, namespace, "v1"
	if app.Canary != nil && app.Canary.P99 == 0 {
		app.Canary.P99 = tolerable
	}
	f := &fixture{bed: shared, t: t, namespace: namespace, app: app, began: time.Now()}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(func() {
		f.leave(ctx)
		cancel()
	})
	var err error
	f.timeline, err = timeline.Watch(ctx, f.Config, namespace, appName)
	require.NoError(t, err)
	f.commit("Run v1")
	require.NoError(t, f.flux.Sync(t.Context(), flux.Source{Name: namespace, URL: f.server.URL("fleet"), Branch: gitserver.Branch, Path: f.path(), Interval: fluxInterval}))
	f.await("Flux has applied v1", func(s timeline.State) bool { return s.Deployment != nil })
	if rate > 0 {
		rate = max(rate, leastRate)
		// They start beside the application, and count once it answers.
		f.apply(f.client("meshed", true, rate/2), f.client("unmeshed", false, rate/2))
	}
	f.await("v1 runs", func(s timeline.State) bool {
		return s.Canary != nil && s.Canary.Status.Phase == v1alpha1.PhaseStable && s.Canary.Status.Stable != nil && available(s.Deployment)
	})
	f.awaitAnswers()
	return f
}

// client is one of the application, of all kinds of requests.
func (f *fixture) client(name string, meshed bool, rate int) incluster.Pod {
	host := appName + "." + f.namespace
	return incluster.Pod{Namespace: f.namespace, Name: name, Meshed: meshed, Target: "http://" + host, GRPC: host + ":9999", Rate: rate}
}

func (f *fixture) path() string { return "apps/" + f.namespace }

// join starts more clients in the midst of a scenario, and returns when all count.
func (f *fixture) join(clients ...incluster.Pod) {
	f.t.Helper()
	f.apply(clients...)
	require.Eventually(f.t, func() bool {
		for _, pod := range f.clients {
			if counts, err := pod.Counts(f.t.Context(), f.Kube); err != nil || !answered(pod, counts) {
				return false
			}
		}
		return true
	}, time.Minute, 300*time.Millisecond, "all clients are answered")
	f.passed("all clients are answered, also those that joined")
}

func (f *fixture) apply(clients ...incluster.Pod) {
	f.t.Helper()
	for _, pod := range clients {
		content, err := pod.YAML()
		require.NoError(f.t, err)
		_, err = f.Applier.Apply(f.t.Context(), content)
		require.NoError(f.t, err)
	}
	f.clients = append(f.clients, clients...)
}

// forget makes all clients count from nothing, as soon as a second has brought them only answers.
func (f *fixture) forget() {
	f.t.Helper()
	for _, pod := range f.clients {
		require.NoError(f.t, pod.Reset(f.t.Context(), f.Kube))
	}
	f.awaitAnswers()
}

// awaitAnswers returns when each client has been answered for a second without a failure. What went
// before that does not count.
func (f *fixture) awaitAnswers() {
	f.t.Helper()
	require.Eventually(f.t, func() bool {
		for _, pod := range f.clients {
			counts, err := pod.Counts(f.t.Context(), f.Kube)
			if err == nil && counts.Failed > 0 {
				err = pod.Reset(f.t.Context(), f.Kube)
				counts = load.Counts{}
			}
			if err != nil || !answered(pod, counts) {
				return false
			}
		}
		return true
	}, time.Minute, 300*time.Millisecond, "all clients are answered")
	f.passed("all clients are answered")
}

// answered says that a client has been, for a second, and by gRPC, which has one connection that may have
// been long in coming.
func answered(pod incluster.Pod, counts load.Counts) bool {
	return counts.OK >= uint64(pod.Rate) && (counts.Calls > 0 || pod.GRPC == "")
}

// longestAnswer is how long an answer takes at most that is sent piece by piece.
const longestAnswer = 3 * time.Second

// expectVersion: what is asked from now on this version answers, and no other.
func (f *fixture) expectVersion(version string) {
	f.t.Helper()
	f.linger(longestAnswer)
	before := f.counts()
	require.Eventually(f.t, func() bool { return f.counts().OK >= before.OK+50 }, time.Minute, 200*time.Millisecond)
	for name, now := range f.counts().Versions {
		if name == load.NoVersion {
			continue // What upgrades to WebSocket does not say who it is.
		}
		require.Equal(f.t, name != version, now.OK == before.Versions[name].OK, "answers of %s", name)
	}
}

// counts is what both clients have seen.
func (f *fixture) counts() load.Counts {
	f.t.Helper()
	all := make([]load.Counts, len(f.clients))
	for i, pod := range f.clients {
		counts, err := pod.Counts(f.t.Context(), f.Kube)
		require.NoError(f.t, err)
		all[i] = counts
	}
	return load.Merge(all...)
}

// part plays a piece of a scenario that can fail by itself; what follows needs it.
func (f *fixture) part(name string, play func()) {
	f.t.Helper()
	whole := f.t
	passed := whole.Run(name, func(t *testing.T) {
		f.t = t
		play()
	})
	f.t = whole
	if !passed {
		whole.FailNow()
	}
}

// release commits the application at another version and has Flux look.
func (f *fixture) release(version string, arguments ...string) {
	f.t.Helper()
	f.app.Version, f.app.Arguments = version, arguments
	f.commit("Release " + version)
	require.NoError(f.t, f.flux.Poke(f.t.Context(), f.namespace))
}

// commit writes the application as it is now to Git.
func (f *fixture) commit(message string) {
	f.t.Helper()
	files, err := f.app.Files(f.path())
	require.NoError(f.t, err)
	f.committed(func(ctx context.Context) (string, error) {
		return f.repository.Commit(ctx, gitserver.Change{Files: files, Author: author, Message: f.namespace + ": " + message})
	})
}

// revert undoes the last commit of the application in Git and has Flux look.
func (f *fixture) revert() {
	f.t.Helper()
	last := f.commits[len(f.commits)-1].hash
	f.committed(func(ctx context.Context) (string, error) { return f.repository.Revert(ctx, last, author) })
	require.NoError(f.t, f.flux.Poke(f.t.Context(), f.namespace))
}

// committed notes a commit. The repository is shared, and has one work tree.
func (f *fixture) committed(write func(context.Context) (string, error)) {
	f.t.Helper()
	f.git.Lock()
	defer f.git.Unlock()
	at := time.Now()
	hash, err := write(f.t.Context())
	require.NoError(f.t, err)
	f.commits = append(f.commits, commit{at: at, hash: hash})
}

// await returns the first state of which something holds.
func (f *fixture) await(what string, holds func(timeline.State) bool) timeline.State {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	state, err := f.timeline.Await(ctx, holds)
	require.NoError(f.t, err, "wait until %s", what)
	f.passed(what)
	return state
}

// passed says when something was seen, so that the log of a slow scenario tells where its time went.
func (f *fixture) passed(what string) {
	f.t.Helper()
	f.t.Logf("%5.1f s: %s", time.Since(f.began).Seconds(), what)
}

// linger lets time pass under load, for failures that come late.
func (f *fixture) linger(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.t.Context().Done():
	}
}

// leave writes down what a failed scenario saw and removes its objects.
func (f *fixture) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if f.t.Failed() {
		f.report(ctx)
		if keep() {
			return
		}
	}
	if err := f.flux.Unsync(ctx, f.namespace); err != nil {
		f.t.Errorf("leave: %v", err)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}}
	if err := f.Client.Delete(ctx, namespace); err != nil && !apierrors.IsNotFound(err) {
		f.t.Errorf("leave: %v", err)
	}
}

func available(deployment *appsv1.Deployment) bool {
	if deployment == nil || deployment.Spec.Replicas == nil || *deployment.Spec.Replicas == 0 {
		return false
	}
	status, wanted := deployment.Status, *deployment.Spec.Replicas
	return status.ObservedGeneration >= deployment.Generation &&
		status.UpdatedReplicas == wanted && status.Replicas == wanted && status.AvailableReplicas == wanted
}

// resting says that the Canary has nothing to do, and the Deployment neither.
func resting(s timeline.State) bool {
	return s.Canary != nil && s.Canary.Status.Phase == v1alpha1.PhaseStable && available(s.Deployment) && !s.Deployment.Spec.Paused &&
		meta.IsStatusConditionTrue(s.Canary.Status.Conditions, v1alpha1.ConditionReady)
}

// underWay says that a run other than the given one has a weight in force.
func underWay(before string) func(timeline.State) bool {
	return func(s timeline.State) bool {
		return s.Canary != nil && s.Canary.Status.Run != before && s.Canary.Status.Phase == v1alpha1.PhaseHolding && s.Canary.Status.Weight > 0
	}
}

// instances are the application's pods, also those on their way out.
func instances(s timeline.State) []*corev1.Pod {
	var out []*corev1.Pod
	for _, pod := range s.Pods {
		if pod.Labels[timeline.LabelHash] != "" {
			out = append(out, pod)
		}
	}
	return out
}

// rolledOut: the Deployment is, and not even a dying pod of another revision is left.
func rolledOut(s timeline.State) bool {
	return available(s.Deployment) && len(instances(s)) == int(*s.Deployment.Spec.Replicas)
}

func isReady(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil
		}
	}
	return false
}

// key names the application's objects.
func (f *fixture) key() client.ObjectKey {
	return client.ObjectKey{Namespace: f.namespace, Name: appName}
}

func (c commit) String() string { return fmt.Sprintf("%.7s at %s", c.hash, c.at.Format(time.TimeOnly)) }
