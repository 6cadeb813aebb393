// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	appsv1apply "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	metav1apply "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

const (
	// perNamespace is how many workloads share a namespace.
	perNamespace = 100
	// makers make workloads side by side.
	makers = 16
	// replicas of each workload.
	replicas = 2

	oldImage, newImage = "app:v1", "app:v2"
)

// oldHash is that of a workload's first template. Templates differ in their labels, so no two have the same.
func oldHash(key client.ObjectKey) string { return key.Name + "-v1" }

// makeWorkloads makes all that a Canary needs, and the Canaries.
func (b *bed) makeWorkloads(ctx context.Context) error {
	for i := range b.idle + b.running {
		b.workloads = append(b.workloads, client.ObjectKey{Namespace: fmt.Sprintf("shop-%02d", i/perNamespace), Name: fmt.Sprintf("app-%04d", i)})
	}
	for i := 0; i < len(b.workloads); i += perNamespace {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.workloads[i].Namespace}}
		if err := b.client.Create(ctx, namespace); err != nil {
			return fmt.Errorf("create namespace %s: %w", namespace.Name, err)
		}
	}
	began := time.Now()
	if err := b.eachOf(ctx, b.workloads, b.makeWorkload); err != nil {
		return err
	}
	fmt.Printf("%d workloads made in %s\n", len(b.workloads), time.Since(began).Round(time.Second))
	return nil
}

// eachOf does something with some workloads, side by side.
func (b *bed) eachOf(ctx context.Context, keys []client.ObjectKey, do func(context.Context, client.ObjectKey) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(makers)
	for _, key := range keys {
		group.Go(func() error { return do(ctx, key) })
	}
	return group.Wait()
}

// makeWorkload makes a Deployment as Git holds it, the ReplicaSet that a Deployment controller would
// make for it, and a Canary with the default gate.
func (b *bed) makeWorkload(ctx context.Context, key client.ObjectKey) error {
	if err := b.git(ctx, key, oldImage); err != nil {
		return err
	}
	d := &appsv1.Deployment{}
	if err := b.client.Get(ctx, key, d); err != nil {
		return fmt.Errorf("read deployment %s: %w", key, err)
	}
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: key.Name + "-" + oldHash(key), Labels: map[string]string{"app": key.Name, appsv1.DefaultDeploymentUniqueLabelKey: oldHash(key)},
			Annotations: map[string]string{
				"deployment.kubernetes.io/revision": "1", "deployment.kubernetes.io/desired-replicas": fmt.Sprint(replicas), "deployment.kubernetes.io/max-replicas": fmt.Sprint(replicas + 1),
			},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: d.Spec.Replicas, Selector: d.Spec.Selector.DeepCopy(), Template: *d.Spec.Template.DeepCopy()},
	}
	rs.Spec.Selector.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey] = oldHash(key)
	rs.Spec.Template.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = oldHash(key)
	if err := b.client.Create(ctx, rs); err != nil {
		return fmt.Errorf("create replicaset %s/%s: %w", key.Namespace, rs.Name, err)
	}
	canary := &v1alpha1.Canary{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Spec: v1alpha1.CanarySpec{
			TargetRef: v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: key.Name},
			// Nothing is promoted while it is measured: the step's hold is longer.
			Steps: []v1alpha1.Step{{Weight: 50, Hold: metav1.Duration{Duration: time.Hour}}, {Weight: 100, Hold: metav1.Duration{Duration: time.Hour}}},
		},
	}
	if err := b.client.Create(ctx, canary); err != nil {
		return fmt.Errorf("create canary %s: %w", key, err)
	}
	return nil
}

// git applies a Deployment as Flux does.
func (b *bed) git(ctx context.Context, key client.ObjectKey, image string) error {
	labels := map[string]string{"app": key.Name}
	d := appsv1apply.Deployment(key.Name, key.Namespace).WithSpec(appsv1apply.DeploymentSpec().
		WithReplicas(replicas).
		WithSelector(metav1apply.LabelSelector().WithMatchLabels(labels)).
		WithTemplate(corev1apply.PodTemplateSpec().WithLabels(labels).
			WithSpec(corev1apply.PodSpec().WithContainers(corev1apply.Container().WithName("app").WithImage(image)))))
	if err := b.client.Apply(ctx, d, client.FieldOwner(gitManager), client.ForceOwnership); err != nil {
		return fmt.Errorf("apply deployment %s: %w", key, err)
	}
	return nil
}

// inRun are the workloads that are to run, some in each namespace.
func (b *bed) inRun() []client.ObjectKey {
	stride := len(b.workloads) / b.running
	var keys []client.ObjectKey
	for i := range b.running {
		keys = append(keys, b.workloads[i*stride])
	}
	return keys
}

// atRest are the others.
func (b *bed) atRest() []client.ObjectKey {
	running := b.inRun()
	return slices.DeleteFunc(slices.Clone(b.workloads), func(key client.ObjectKey) bool { return slices.Contains(running, key) })
}

// phases counts the Canaries in each phase.
func (b *bed) phases(ctx context.Context) (map[v1alpha1.Phase]int, error) {
	list := &v1alpha1.CanaryList{}
	if err := b.cached.List(ctx, list); err != nil {
		return nil, fmt.Errorf("list canaries: %w", err)
	}
	counts := map[v1alpha1.Phase]int{}
	for i := range list.Items {
		counts[list.Items[i].Status.Phase]++
	}
	return counts, nil
}

// versions are those of all Canaries and Deployments: what is written has another.
func (b *bed) versions(ctx context.Context) (map[types.UID]string, error) {
	found := map[types.UID]string{}
	canaries, deployments := &v1alpha1.CanaryList{}, &appsv1.DeploymentList{}
	if err := errors.Join(b.client.List(ctx, canaries), b.client.List(ctx, deployments)); err != nil {
		return nil, fmt.Errorf("list canaries and deployments: %w", err)
	}
	for i := range canaries.Items {
		found[canaries.Items[i].UID] = canaries.Items[i].ResourceVersion
	}
	for i := range deployments.Items {
		found[deployments.Items[i].UID] = deployments.Items[i].ResourceVersion
	}
	return found, nil
}

// awaitPhase waits until so many Canaries are in a phase.
func (b *bed) awaitPhase(ctx context.Context, phase v1alpha1.Phase, count int) error {
	return b.await(ctx, fmt.Sprintf("%d canaries in phase %s", count, phase), func() (bool, error) {
		counts, err := b.phases(ctx)
		return counts[phase] == count, err
	})
}

// await looks every second whether something has come about.
func (b *bed) await(ctx context.Context, what string, come func() (bool, error)) error {
	const patience = 10 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	poll := time.NewTicker(time.Second) // to list thousands of objects is a load, too
	defer poll.Stop()
	for {
		done, err := come()
		if done || err != nil {
			return err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %s", patience, what)
		}
	}
}
