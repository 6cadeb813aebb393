// SPDX-License-Identifier: Apache-2.0

//go:build harness

package cli

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/harness"
)

// TestPeopleOnARealServer: what people read and ask goes through a real API server, with its pruning,
// defaults and field ownership, and a record that it has stored is still what was written.
func TestPeopleOnARealServer(t *testing.T) {
	require.NoError(t, harness.InstallCRDs(t.Context(), control.Config, os.DirFS("../../config/crd")))
	scheme, err := newScheme()
	require.NoError(t, err)
	cluster, err := client.New(control.Config, client.Options{Scheme: scheme})
	require.NoError(t, err)
	for _, name := range []string{"shop", defaultNamespace} {
		require.NoError(t, client.IgnoreAlreadyExists(cluster.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})))
	}
	for _, object := range shop(t) {
		switch object.(type) {
		case *v1alpha1.TrafficSplit, *appsv1.Deployment, *eventsv1.Event:
			continue // played ones are not complete enough for a real server
		}
		wanted := object.DeepCopyObject().(client.Object)
		object.SetCreationTimestamp(metav1.Time{})
		require.NoError(t, cluster.Create(t.Context(), object))
		if canary, ok := wanted.(*v1alpha1.Canary); ok {
			stored := object.(*v1alpha1.Canary)
			stored.Status = canary.Status
			for i := range stored.Status.Conditions {
				stored.Status.Conditions[i].LastTransitionTime = metav1.Now()
			}
			require.NoError(t, cluster.Status().Update(t.Context(), stored))
		}
	}
	flags := []string{"--kubeconfig", control.Kubeconfig, "-n", "shop"}
	code, out, complaint := run(t, append([]string{"get", "checkout", "-o", "json"}, flags...)...)
	require.Equal(t, exitOK, code, complaint)
	read := &v1alpha1.Canary{}
	require.NoError(t, json.Unmarshal([]byte(out), read))
	require.Equal(t, int32(25), read.Status.Weight)

	code, out, complaint = run(t, append([]string{"abort", "canary/checkout"}, flags...)...)
	require.Equal(t, exitOK, code, complaint)
	require.Contains(t, out, "is asked to abort (checkout-3)")
	stored := &v1alpha1.Canary{}
	require.NoError(t, cluster.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "checkout"}, stored))
	require.Equal(t, "checkout-3", stored.Annotations[v1alpha1.AnnotationAbort])
	managers := []string{}
	for _, entry := range stored.ManagedFields {
		managers = append(managers, entry.Manager)
	}
	require.Contains(t, managers, cliManager)

	code, out, complaint = run(t, append([]string{"history", "checkout", "--verify"}, flags...)...)
	require.Equal(t, exitOK, code, complaint+out)
	require.Contains(t, out, "intact")
	code, _, complaint = run(t, append([]string{"wait", "checkout", "--revision", "bbbbbbbbbb", "--timeout", "5s"}, flags...)...)
	require.Equal(t, exitRejected, code, complaint)
	require.NoError(t, cluster.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}))
	require.NoError(t, cluster.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: defaultNamespace}}))
}
