// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// installManager owns the fields that the chart sets. It must not begin with kubectl: Flux strips
	// such managers.
	installManager = "sluice-install"
	pollInterval   = 200 * time.Millisecond
)

// applier puts rendered objects into a cluster.
type applier struct {
	cluster  *cluster
	progress io.Writer
}

// apply brings a cluster to the rendered objects and waits until they work. What is stale goes in an
// order in which Deployments are held at each moment and no webhook is called that nobody serves:
// its webhook before the programs are replaced, the rest when the new ones are ready.
func (a *applier) apply(ctx context.Context, objects, stale []*unstructured.Unstructured) error {
	programs := slices.IndexFunc(objects, func(object *unstructured.Unstructured) bool { return object.GetKind() == "Deployment" })
	unserved := func(object *unstructured.Unstructured) bool {
		return object.GetKind() == "MutatingWebhookConfiguration"
	}
	served := func(object *unstructured.Unstructured) bool { return !unserved(object) }
	if err := a.applyAll(ctx, objects[:programs]); err != nil {
		return err
	}
	if err := a.remove(ctx, slices.DeleteFunc(slices.Clone(stale), served)); err != nil {
		return err
	}
	if err := a.applyAll(ctx, objects[programs:]); err != nil {
		return err
	}
	for _, object := range objects {
		if err := a.await(ctx, object); err != nil {
			return err
		}
	}
	if err := a.remove(ctx, slices.DeleteFunc(slices.Clone(stale), unserved)); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.progress, "Sluice is ready.")
	return err
}

func (a *applier) applyAll(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		if err := a.applyOne(ctx, object); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) applyOne(ctx context.Context, object *unstructured.Unstructured) error {
	// The answer would overwrite what was rendered.
	applied := object.DeepCopy()
	err := a.cluster.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(applied),
		client.FieldOwner(installManager), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("apply %s: %w", nameOf(object), err)
	}
	_, err = fmt.Fprintf(a.progress, "applied %s\n", nameOf(object))
	return err
}

// await returns when an object does what it is there for.
func (a *applier) await(ctx context.Context, object *unstructured.Unstructured) error {
	ready, found := map[string]func(*unstructured.Unstructured) bool{
		"CustomResourceDefinition": established,
		"Deployment":               rolledOut,
	}[object.GetKind()]
	if !found {
		return nil
	}
	last := "it was not seen"
	err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		current := &unstructured.Unstructured{}
		current.SetGroupVersionKind(object.GroupVersionKind())
		if err := a.cluster.client.Get(ctx, client.ObjectKeyFromObject(object), current); err != nil {
			last = err.Error()
			return false, nil //nolint:nilerr // it may come yet; the deadline reports the last error
		}
		last = conditions(current)
		return ready(current), nil
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w; it said: %s", nameOf(object), err, last)
	}
	return nil
}

func established(object *unstructured.Unstructured) bool {
	return conditionStatus(object, "Established") == "True"
}

func rolledOut(object *unstructured.Unstructured) bool {
	var deployment appsv1.Deployment
	if err := convert(object, &deployment); err != nil {
		return false
	}
	status := deployment.Status
	wanted := int32(1)
	if deployment.Spec.Replicas != nil {
		wanted = *deployment.Spec.Replicas
	}
	return status.ObservedGeneration >= deployment.Generation && status.UpdatedReplicas == wanted &&
		status.Replicas == wanted && status.AvailableReplicas == wanted
}

// remove deletes objects, the last applied first, and returns when none is left.
func (a *applier) remove(ctx context.Context, objects []*unstructured.Unstructured) error {
	for i := len(objects) - 1; i >= 0; i-- {
		err := a.cluster.client.Delete(ctx, objects[i].DeepCopy(), propagation(objects[i]))
		switch {
		case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
			continue
		case err != nil:
			return fmt.Errorf("delete %s: %w", nameOf(objects[i]), err)
		}
		if _, err := fmt.Fprintf(a.progress, "deleted %s\n", nameOf(objects[i])); err != nil {
			return err
		}
	}
	for i := len(objects) - 1; i >= 0; i-- {
		if err := a.awaitGone(ctx, objects[i]); err != nil {
			return err
		}
	}
	return nil
}

// propagation waits for what an object owns, but for definitions, which go after their objects anyhow.
// The garbage collector would have to let go of them, too, by a patch without a UID, and the API server
// deletes by name what two patches let go of: one that comes late removes the definition of the same
// name that the next install has written.
func propagation(object *unstructured.Unstructured) client.PropagationPolicy {
	if object.GetKind() == "CustomResourceDefinition" {
		return client.PropagationPolicy(metav1.DeletePropagationBackground)
	}
	return client.PropagationPolicy(metav1.DeletePropagationForeground)
}

func (a *applier) awaitGone(ctx context.Context, object *unstructured.Unstructured) error {
	err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		err := a.cluster.client.Get(ctx, client.ObjectKeyFromObject(object), object.DeepCopy())
		return apierrors.IsNotFound(err) || meta.IsNoMatchError(err), client.IgnoreNotFound(ignoreNoMatch(err))
	})
	if err != nil {
		return fmt.Errorf("wait until %s is gone: %w", nameOf(object), err)
	}
	return nil
}

func ignoreNoMatch(err error) error {
	if meta.IsNoMatchError(err) {
		return nil
	}
	return err
}

func nameOf(object *unstructured.Unstructured) string {
	if object.GetNamespace() == "" {
		return object.GetKind() + " " + object.GetName()
	}
	return object.GetKind() + " " + object.GetNamespace() + "/" + object.GetName()
}
