// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// releaseSet takes a set out of the Deployment's selector: labels and controller reference go in one
// patch, so that there is no instant in which it matches and has no owner, or the reverse.
func (h *hands) releaseSet(ctx context.Context, e ReleaseSet) error {
	return h.patchSet(ctx, e.Name, "release", func(rs *appsv1.ReplicaSet) {
		rs.Labels = releasedLabels(h.canary.Name, e.Role, rs.Spec.Template.Labels[appsv1.DefaultDeploymentUniqueLabelKey])
		rs.OwnerReferences = []metav1.OwnerReference{plainReference(h.deployment)}
	})
}

// giveBackSet makes a set the Deployment controller's again, in one patch. A handover also says what
// that controller would have written on its new set, so that it finds nothing to scale.
func (h *hands) giveBackSet(ctx context.Context, e GiveBackSet) error {
	return h.patchSet(ctx, e.Name, "give back", func(rs *appsv1.ReplicaSet) {
		rs.Labels = maps.Clone(rs.Spec.Template.Labels)
		rs.OwnerReferences = []metav1.OwnerReference{*controllerReference(h.deployment)}
		if e.Handover == nil {
			return
		}
		rs.Annotations = maps.Clone(rs.Annotations)
		if rs.Annotations == nil {
			rs.Annotations = map[string]string{}
		}
		keepRevisionHistory(rs.Annotations, e.Handover.Revision)
		rs.Annotations[annotationDesired] = strconv.Itoa(int(e.Handover.Replicas))
		rs.Annotations[annotationMaximum] = strconv.Itoa(int(e.Handover.MaxReplicas))
		rs.Annotations[annotationRevision] = strconv.FormatInt(e.Handover.Revision, 10)
	})
}

// keepRevisionHistory notes the revision that a set had before, for kubectl rollout history.
func keepRevisionHistory(annotations map[string]string, next int64) {
	old := annotations[annotationRevision]
	if old == "" || old == strconv.FormatInt(next, 10) {
		return
	}
	past := strings.FieldsFunc(annotations[annotationRevisionHistory], func(r rune) bool { return r == ',' })
	if !slices.Contains(past, old) {
		past = append(past, old)
	}
	annotations[annotationRevisionHistory] = strings.Join(past, ",")
}

// markTarget writes the labels. A pause that stands is applied with them: server-side apply would
// take back a field that this manager owned and does not repeat, and so release the hold.
func (h *hands) markTarget(ctx context.Context, e MarkTarget) error {
	labels := h.marks()
	if e.Hold != "" {
		labels[v1alpha1.LabelHold] = e.Hold
		return h.apply(ctx, labels, true, true)
	}
	return h.applyWithoutHold(ctx, labels, h.deployment.Spec.Paused)
}

// unpause lifts the hold in one request. It carries the resource version at which the template was
// compared: had a newer template landed since, the request fails, and the comparison is repeated.
func (h *hands) unpause(ctx context.Context) error {
	return h.applyWithoutHold(ctx, h.marks(), false)
}

// marks are the labels that the admission rule looks for.
func (h *hands) marks() map[string]any {
	labels := map[string]any{v1alpha1.LabelCanary: h.canary.Name}
	if holdsRestarts(h.canary) {
		labels[v1alpha1.LabelRestarts] = v1alpha1.RestartsHeld
	}
	return labels
}

func (h *hands) forgetTarget(ctx context.Context, e ForgetTarget) error {
	return h.applyWithoutHold(ctx, map[string]any{}, e.StayPaused)
}

// applyWithoutHold removes the hold label. Admission wrote it as nobody's, and apply removes only
// what it owns: then the label is taken first, fenced like the request that follows it.
func (h *hands) applyWithoutHold(ctx context.Context, labels map[string]any, paused bool) error {
	for _, label := range []string{v1alpha1.LabelHold, v1alpha1.LabelRestarts, v1alpha1.LabelCanary} {
		value, present := h.deployment.Labels[label]
		if _, stays := labels[label]; stays || !present || h.owns(label) {
			continue
		}
		taken := maps.Clone(labels)
		taken[label] = value
		if err := h.apply(ctx, taken, h.deployment.Spec.Paused, h.deployment.Spec.Paused); err != nil {
			return err
		}
	}
	return h.apply(ctx, labels, paused, paused || h.deployment.Spec.Paused)
}

// owns says whether the last apply of this manager had a label.
func (h *hands) owns(label string) bool {
	for _, entry := range h.deployment.ManagedFields {
		if entry.Manager == v1alpha1.FieldManager && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == "" &&
			entry.FieldsV1 != nil && strings.Contains(entry.FieldsV1.GetRawString(), `"f:`+label+`"`) {
			return true
		}
	}
	return false
}

// apply is the one way in which Sluice writes to a Deployment: server-side, fields that Git does not
// hold, and only on the very object that was observed.
func (h *hands) apply(ctx context.Context, labels map[string]any, paused, statePause bool) error {
	metadata := map[string]any{
		"name": h.deployment.Name, "namespace": h.deployment.Namespace,
		"uid": string(h.deployment.UID), "resourceVersion": h.deployment.ResourceVersion,
	}
	if len(labels) > 0 {
		metadata["labels"] = labels
	}
	object := map[string]any{"apiVersion": appsv1.SchemeGroupVersion.String(), "kind": "Deployment", "metadata": metadata}
	if statePause {
		object["spec"] = map[string]any{"paused": paused}
	}
	desired := &unstructured.Unstructured{Object: object}
	err := h.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(desired), client.FieldOwner(v1alpha1.FieldManager), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("apply labels and pause of deployment %s: %w", h.deployment.Name, err)
	}
	// The answer is the object as it is now: the next write is fenced by it.
	h.deployment = &appsv1.Deployment{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(desired.Object, h.deployment); err != nil {
		return fmt.Errorf("read the applied deployment: %w", err)
	}
	return nil
}
