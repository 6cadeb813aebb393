// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/gitserver"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// What the demo releases.
const (
	namespace  = "demo"
	appName    = "podinfo"
	appPath    = "apps/podinfo"
	author     = "Ada Demo <ada@example.com>"
	faultShare = 20
	// releaseTimeout bounds a release that does not end by itself.
	releaseTimeout = 5 * time.Minute
)

// app is the sample application at a version. The steps are short, so that the demo is: in real life
// each lasts minutes.
func app(version string, arguments ...string) sampleapp.App {
	return sampleapp.App{
		Name: appName, Namespace: namespace, Version: version, Arguments: arguments, Replicas: 3,
		Canary: &sampleapp.Canary{
			Steps: []sampleapp.Step{
				{Weight: 10, Hold: 5 * time.Second}, {Weight: 25, Hold: 5 * time.Second},
				{Weight: 50, Hold: 5 * time.Second}, {Weight: 100, Hold: 5 * time.Second},
			},
			Drain: 10 * time.Second,
		},
	}
}

// faulty is the application at a version that fails.
func faulty(version string) sampleapp.App { return app(version, sampleapp.Faulty(faultShare)) }

// release is what came of one commit.
type release struct {
	version, commit string
	outcome         v1alpha1.Outcome
	// took is from the commit to the end of the run.
	took time.Duration
	// exposed is from the first weight to the last acknowledged zero; 0 when that was never.
	exposed time.Duration
	// analysed are the canary's pods as they were while its gates were judged.
	analysed []types.UID
	revision string
	message  string
}

// commit writes the application at a version to Git.
func (d *demo) commit(ctx context.Context, a sampleapp.App, message string) (string, error) {
	files, err := a.Files(appPath)
	if err != nil {
		return "", err
	}
	hash, err := d.repository.Commit(ctx, gitserver.Change{Files: files, Author: author, Message: message})
	if err != nil {
		return "", err
	}
	d.screen.say("\n%s  git commit %.7s  %q", time.Now().Format(time.TimeOnly), hash, message)
	return hash, d.sync.look(ctx, hash)
}

// first brings up v1, which is no release: there is nothing to compare it with.
func (d *demo) first(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	if _, err := d.commit(ctx, app("v1"), "Run podinfo v1"); err != nil {
		return err
	}
	state, err := d.timeline.Await(ctx, func(s timeline.State) bool {
		return s.Canary != nil && s.Canary.Status.Phase == v1alpha1.PhaseStable && available(s.Deployment)
	})
	if err != nil {
		return fmt.Errorf("wait until v1 runs: %w", err)
	}
	d.screen.say("podinfo v1 runs in %d pods", state.Deployment.Status.AvailableReplicas)
	return nil
}

// try commits a version and watches until its run has ended.
func (d *demo) try(ctx context.Context, from string, to sampleapp.App, message string) (release, error) {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	before := ""
	if run := d.timeline.State().LatestRun(); run != nil {
		before = run.Name
	}
	result := release{version: to.Version}
	began := time.Now()
	var err error
	if result.commit, err = d.commit(ctx, to, message); err != nil {
		return result, err
	}
	d.showing(from, to.Version)
	state, err := d.timeline.Await(ctx, func(s timeline.State) bool {
		run := s.LatestRun()
		if run == nil || run.Name == before || s.Canary == nil {
			return false
		}
		result.revision = run.Spec.Candidate.PodTemplateHash
		phase := s.Canary.Status.Phase
		if phase == v1alpha1.PhaseHolding {
			result.analysed = s.UIDs(result.revision)
		}
		return run.Record.Outcome != "" && (phase == v1alpha1.PhaseStable || phase == v1alpha1.PhaseRejected)
	})
	if err != nil {
		return result, fmt.Errorf("wait for the end of %s's run: %w", to.Version, err)
	}
	run := state.LatestRun()
	result.outcome, result.took = run.Record.Outcome, time.Since(began)
	result.exposed, _ = state.Since(began).TimeToZero(result.revision)
	if n := len(run.Record.Entries); n > 0 {
		result.message = run.Record.Entries[n-1].Message
	}
	return result, nil
}

// samePods returns nil when the Deployment's own pods are exactly those that were analysed.
func (d *demo) samePods(ctx context.Context, r release) error {
	state := d.timeline.State()
	if serving := state.UIDs(r.revision); len(serving) == 0 || !slices.Equal(serving, r.analysed) {
		return fmt.Errorf("analysed were the pods %v, serving are %v", r.analysed, serving)
	}
	var sets appsv1.ReplicaSetList
	if err := d.client.List(ctx, &sets, client.InNamespace(namespace), client.MatchingLabels{timeline.LabelHash: r.revision}); err != nil {
		return fmt.Errorf("list the ReplicaSets: %w", err)
	}
	if len(sets.Items) != 1 {
		return fmt.Errorf("%d ReplicaSets have revision %s, not 1", len(sets.Items), r.revision)
	}
	if owner := metav1.GetControllerOf(&sets.Items[0]); owner == nil || owner.Kind != "Deployment" || owner.Name != appName {
		return fmt.Errorf("ReplicaSet %s does not belong to the Deployment", sets.Items[0].Name)
	}
	for _, pod := range state.PodsOf(r.revision) {
		for _, status := range pod.Status.ContainerStatuses {
			if status.RestartCount > 0 {
				return fmt.Errorf("container %s of pod %s has restarted", status.Name, pod.Name)
			}
		}
	}
	if !available(state.Deployment) || state.Deployment.Spec.Paused {
		return fmt.Errorf("the Deployment is not rolled out: %+v", state.Deployment.Status)
	}
	return nil
}

// available is what `kubectl rollout status` waits for.
func available(deployment *appsv1.Deployment) bool {
	if deployment == nil || deployment.Spec.Replicas == nil || *deployment.Spec.Replicas == 0 {
		return false
	}
	status, wanted := deployment.Status, *deployment.Spec.Replicas
	return status.ObservedGeneration >= deployment.Generation &&
		status.UpdatedReplicas == wanted && status.Replicas == wanted && status.AvailableReplicas == wanted
}
