// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// A controller that was replaced as leader decides on what it saw before: it must not take back, make or
// delete a split that the new leader has written since. What the mesh writes into the status meanwhile
// is in nobody's way.
func TestAnOldLookWritesNoSplit(t *testing.T) {
	scheme := runtime.NewScheme()
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	c := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.TrafficSplit{}).Build()
	name := client.ObjectKey{Namespace: "shop", Name: "app"}
	look := func() *hands {
		h := &hands{client: c, reader: c, scene: &scene{
			canary:     &v1alpha1.Canary{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "app"}},
			deployment: &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "app", UID: "d"}},
		}}
		h.deployment.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "app"}}
		split := &v1alpha1.TrafficSplit{}
		err := c.Get(t.Context(), name, split)
		if err == nil {
			h.split = split
		}
		require.NoError(t, client.IgnoreNotFound(err))
		return h
	}
	// The API server counts generations; the fake one does not.
	next := func() {
		split := look().split
		split.Generation++
		require.NoError(t, c.Update(t.Context(), split))
	}
	weight := func() int32 { return look().split.Spec.Revisions[1].Weight }
	write := func(h *hands, weight int32) error {
		return h.writeSplit(t.Context(), WriteSplit{StableHash: "a", CanaryHash: "b", CanaryWeight: weight, TotalWeight: 100})
	}

	nothing := look()
	require.NoError(t, write(look(), 0))
	require.True(t, apierrors.IsAlreadyExists(write(nothing, 0)))

	old := look()
	require.NoError(t, write(look(), 50))
	next()
	require.ErrorIs(t, write(old, 0), errMoved)
	require.ErrorIs(t, old.deleteSplit(t.Context()), errMoved)
	require.EqualValues(t, 50, weight())

	current := look()
	reported := look().split
	reported.Status.Proxies.Carrying = 2
	require.NoError(t, c.Status().Update(t.Context(), reported))
	require.NoError(t, write(current, 100))
	require.EqualValues(t, 100, weight())
	require.EqualValues(t, 2, look().split.Status.Proxies.Carrying, "the status is the mesh's")
	require.NoError(t, write(current, 25), "a second write of one pass is fenced by the first")

	last := look()
	require.NoError(t, last.deleteSplit(t.Context()))
	require.ErrorIs(t, write(current, 0), errMoved)
	require.NoError(t, last.deleteSplit(t.Context()))
}
