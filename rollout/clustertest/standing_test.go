// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

func TestTargetNotFound(t *testing.T) {
	b := newBed(t)
	b.start()
	b.createCanary("app")
	stalled := b.awaitCondition("Stalled", v1alpha1.ReasonTargetNotFound)
	require.Contains(t, stalled.Message, "spec.targetRef.name")
	b.git("app:v1")
	b.awaitStable("app:v1")
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(50)
	require.NoError(t, b.client.Delete(t.Context(), b.deployment(), client.PropagationPolicy("Background")))
	b.awaitCondition("Stalled", v1alpha1.ReasonTargetNotFound)
	b.eventually("nothing is left of the Deployment (D5)", func() bool { return len(b.sets()) == 0 && len(b.pods()) == 0 && b.split() == nil })
	require.Equal(t, v1alpha1.OutcomeCancelled, b.run("app-1").Record.Outcome)
	b.git("app:v2")
	b.awaitStable("app:v2")
}

// Two Canaries for one Deployment: the older acts, the other says so, and takes over when it goes.
func TestTargetConflict(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 1)
	b.createCanary("rival")
	rival := &v1alpha1.Canary{}
	b.eventually("the rival is stalled", func() bool {
		require.NoError(t, b.client.Get(t.Context(), b.key("rival"), rival))
		return isTrue(rival, "Stalled")
	})
	require.Contains(t, rival.Status.Conditions[0].Message+rival.Status.Conditions[1].Message, `"app"`)
	require.Equal(t, "app", b.deployment().Labels[v1alpha1.LabelCanary])
	b.deleteCanary()
	b.eventually("the rival takes over", func() bool {
		require.NoError(t, b.client.Get(t.Context(), b.key("rival"), rival))
		return isTrue(rival, "Ready") && b.deployment().Labels[v1alpha1.LabelCanary] == "rival"
	})
}

func TestSuspend(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.patchCanary(`{"spec":{"suspend":true},"metadata":{"annotations":{"reconcile.fluxcd.io/requestedAt":"now"}}}`)
	b.awaitCondition("Ready", v1alpha1.ReasonSuspended)
	b.eventually("the request is handled and the generation observed", func() bool {
		canary := b.canary()
		return canary.Status.LastHandledReconcileAt == "now" && canary.Status.ObservedGeneration == canary.Generation
	})
	b.git("app:v2")
	b.eventually("the template is held and looked at", func() bool {
		return b.canary().Status.ObservedWorkloadGeneration == b.deployment().Generation
	})
	require.Nil(t, b.split())
	b.patchCanary(`{"spec":{"suspend":false}}`)
	b.awaitStable("app:v2")
}

// kubectl rollout restart is no release: the Deployment controller rolls it, and the new set is stable.
func TestRestartIsAdopted(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	old := b.pods()["app:v1"]
	patch := `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"2026-11-22T10:00:00Z"}}}}}`
	require.NoError(t, b.client.Patch(t.Context(), b.deployment(), client.RawPatch(types.StrategicMergePatchType, []byte(patch))))
	b.eventually("the restarted set is stable", func() bool {
		now := b.pods()["app:v1"]
		return len(now) == 2 && now[0] != old[0] && now[0] != old[1] && isTrue(b.canary(), "Ready") &&
			b.canary().Status.Stable.ReplicaSet != "" && b.owner(b.canary().Status.Stable.ReplicaSet) == 2
	})
	require.Empty(t, b.canary().Status.Run)
	b.git("app:v2")
	b.awaitStable("app:v2")
}

func (b *bed) owner(set string) int32 {
	rs := &appsv1.ReplicaSet{}
	require.NoError(b, b.client.Get(b.Context(), b.key(set), rs))
	return rs.Status.ReadyReplicas
}

// A Canary that comes in the middle of a rollout waits for its end and takes what came out.
func TestCanaryComesMidRollout(t *testing.T) {
	b := newBed(t)
	b.start()
	b.git("app:v1")
	b.scale(2)
	b.eventually("v1 runs", func() bool { return b.deployment().Status.AvailableReplicas == 2 })
	b.steerReady(false)
	b.git("app:v2")
	b.eventually("v2 began", func() bool { return len(b.pods()["app:v2"]) > 0 })
	b.createCanary("app")
	b.awaitCondition("Reconciling", v1alpha1.ReasonWaitingForRollout)
	b.steerReady(true)
	b.awaitStable("app:v2")
	require.Empty(t, b.canary().Status.Run, "a first deployment has no steps")
}

// Each field of the Deployment has one owner, and Git's tool finds nothing to correct.
func TestFieldOwnership(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.git("app:v2")
	b.awaitStable("app:v2")
	before := b.deployment()
	b.git("app:v2")
	require.Equal(t, before.ResourceVersion, b.deployment().ResourceVersion, "a repeated apply changes nothing")
	ours := ""
	for _, entry := range before.ManagedFields {
		if entry.Manager == v1alpha1.FieldManager && entry.Subresource == "" {
			require.Equal(t, metav1.ManagedFieldsOperationApply, entry.Operation)
			require.Empty(t, ours, "one entry")
			ours = entry.FieldsV1.GetRawString()
		}
	}
	require.JSONEq(t, `{"f:metadata":{"f:labels":{"f:sluice.dev/canary":{}}},"f:spec":{"f:paused":{}}}`, ours)
	for _, entry := range before.ManagedFields {
		if entry.Manager != v1alpha1.FieldManager && entry.Subresource == "" {
			require.False(t, strings.Contains(entry.FieldsV1.GetRawString(), `"f:paused"`), entry.Manager)
		}
	}
}

// The finalizer never waits in a namespace that goes.
func TestNamespaceDeletedMidRun(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 1)
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(50)
	require.NoError(t, b.client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.namespace}}))
	b.eventually("the namespace is gone", func() bool {
		return b.client.Get(t.Context(), types.NamespacedName{Name: b.namespace}, &corev1.Namespace{}) != nil
	})
}

// A manifest that says paused: false lifts each hold with the next sync; that is said at rest, and no
// longer when the field is gone from it.
func TestManifestThatUnpauses(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 1)
	b.applyUnpaused("app:v1")
	require.Contains(t, b.awaitCondition("Stalled", v1alpha1.ReasonInvalidSpec).Message, gitManager+" applies spec.paused: false")
	b.git("app:v1")
	b.awaitStable("app:v1")
}

// applyUnpaused applies what git does, with a field that Go leaves out when it is false.
func (b *bed) applyUnpaused(image string) {
	b.Helper()
	d := deployment(b.namespace, app, image, 0)
	d.Spec.Replicas = nil
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(d)
	require.NoError(b, err)
	delete(object, "status")
	object["apiVersion"], object["kind"] = "apps/v1", "Deployment"
	require.NoError(b, unstructured.SetNestedField(object, false, "spec", "paused"))
	configuration := client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: object})
	require.NoError(b, b.client.Apply(b.Context(), configuration, client.FieldOwner(gitManager), client.ForceOwnership))
}
