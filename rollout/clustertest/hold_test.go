// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/rollouttest"
)

// The MutatingAdmissionPolicy passes the same table of cases as the webhook.
func TestHoldPolicy(t *testing.T) {
	b := newBed(t)
	cases, err := rollouttest.HoldCases("../testdata/hold")
	require.NoError(t, err)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			old := c.Old
			old.Name, old.Namespace = "", b.namespace
			old.GenerateName = "case-"
			if c.Deleting {
				old.Finalizers = []string{"test/stays"}
			}
			require.NoError(t, b.client.Create(t.Context(), old))
			t.Cleanup(func() {
				old.Finalizers = nil
				_ = b.client.Update(b.Context(), old, client.FieldOwner("test"))
			})
			if c.Deleting {
				require.NoError(t, b.client.Delete(t.Context(), old))
			}
			b.update(t, old, func(d *appsv1.Deployment) {
				d.Labels, d.Annotations, d.Spec = c.New.Labels, c.New.Annotations, c.New.Spec
			})
			require.Equal(t, c.Paused, old.Spec.Paused)
			require.Equal(t, c.Hold, old.Labels[v1alpha1.LabelHold])
		})
	}
}

// update changes an object on top of what the Deployment controller writes meanwhile.
func (b *bed) update(t *testing.T, d *appsv1.Deployment, change func(*appsv1.Deployment)) {
	t.Helper()
	for {
		require.NoError(t, b.client.Get(t.Context(), client.ObjectKeyFromObject(d), d))
		change(d)
		err := b.client.Update(t.Context(), d)
		if client.IgnoreNotFound(err) == nil || !apierrors.IsConflict(err) {
			require.NoError(t, err)
			return
		}
	}
}

// A person who unpauses a held Deployment is told what that does; nothing is refused.
func TestUnpauseWarning(t *testing.T) {
	b := newBed(t)
	warnings := &recorder{}
	cfg := rest.CopyConfig(cluster.Config)
	cfg.WarningHandler = warnings
	person, err := client.New(cfg, client.Options{Scheme: scheme()})
	require.NoError(t, err)

	d := deployment(b.namespace, "held", "app:v1", 1)
	d.Labels = map[string]string{v1alpha1.LabelCanary: "app", v1alpha1.LabelHold: "app-7"}
	d.Spec.Paused = true
	require.NoError(t, b.client.Create(t.Context(), d))
	b.eventually("the person is warned", func() bool {
		require.NoError(t, person.Patch(t.Context(), d, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"paused":false}}`)), client.DryRunAll))
		return warnings.contains("app-7")
	})
	require.False(t, d.Spec.Paused, "the request itself goes through")
}

// Only Sluice's controllers write the kinds that they own.
func TestOwnershipPolicy(t *testing.T) {
	b := newBed(t)
	const collector = "system:serviceaccount:kube-system:generic-garbage-collector"
	require.NoError(t, bind(t.Context(), b.client, "cluster-admin", "tenant", collector))
	user := func(name string) client.Client {
		c, err := client.New(as(name), client.Options{Scheme: scheme()})
		require.NoError(t, err)
		return c
	}
	split := func() *v1alpha1.TrafficSplit {
		s := &v1alpha1.TrafficSplit{}
		s.GenerateName, s.Namespace = "split-", b.namespace
		s.Spec.WorkloadRef.Name = "app"
		s.Spec.Selector.MatchLabels = map[string]string{"app": "app"}
		s.Spec.Revisions = []v1alpha1.RevisionWeight{{Name: "stable", PodTemplateHash: "a", Weight: 100}}
		return s
	}
	tenant := user("tenant")
	b.eventually("a tenant is refused", func() bool {
		err := tenant.Create(t.Context(), split())
		return apierrors.IsForbidden(err)
	})
	ours := split()
	require.NoError(t, user(controllerUser).Create(t.Context(), ours))
	require.True(t, apierrors.IsForbidden(tenant.Delete(t.Context(), ours)))
	require.NoError(t, user(collector).Delete(t.Context(), ours))
}

// recorder keeps warnings.
type recorder struct {
	lock sync.Mutex
	all  []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (r *recorder) HandleWarningHeader(_ int, _, text string) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.all = append(r.all, text)
}

func (r *recorder) contains(part string) bool {
	r.lock.Lock()
	defer r.lock.Unlock()
	return slices.ContainsFunc(r.all, func(text string) bool { return strings.Contains(text, part) })
}
