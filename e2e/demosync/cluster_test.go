// SPDX-License-Identifier: Apache-2.0

//go:build harness

package demosync

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/e2e/apply"
	"github.com/sluice-mesh/sluice/e2e/gitserver"
	"github.com/sluice-mesh/sluice/e2e/harness"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
)

var cluster *harness.Harness

func TestMain(m *testing.M) { os.Exit(harness.Main(m, harness.Options{}, &cluster)) }

const author = "Ada <ada@example.com>"

func TestOnceFollowsGitAndMendsDrift(t *testing.T) {
	server, err := gitserver.Start(gitserver.Options{Directory: t.TempDir(), Address: "127.0.0.1:0"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(context.WithoutCancel(t.Context()))) })
	repo, err := server.Init(t.Context(), "fleet")
	require.NoError(t, err)
	commit := func(app sampleapp.App, without ...string) string {
		files, err := app.Files("apps")
		require.NoError(t, err)
		hash, err := repo.Commit(t.Context(), gitserver.Change{Files: files, Delete: without, Author: author, Message: "Release " + app.Version})
		require.NoError(t, err)
		return hash
	}
	sync, err := New(cluster.Config, Options{
		URL: server.URL("fleet"), Branch: gitserver.Branch, Path: "apps", Directory: t.TempDir(),
		Name: "sync", Namespace: "sync-test", Interval: time.Second,
	})
	require.NoError(t, err)
	once := func() Result {
		result, err := sync.Once(t.Context())
		require.NoError(t, err)
		return result
	}

	require.Empty(t, once(), "an empty repository says nothing")

	app := sampleapp.App{Namespace: "shop", Version: "v1", Disruption: &sampleapp.Disruption{MaxUnavailable: "1"}}
	hash := commit(app)
	result := once()
	require.Equal(t, hash, result.Revision)
	require.Len(t, result.Changes, 4, result.Changes)

	require.Empty(t, once().Changes, "nothing has moved")

	app.Version = "v2"
	commit(app)
	require.Equal(t, []string{"Deployment/shop/podinfo configured"}, once().Changes)

	c := sync.manager.Client()
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "podinfo"}}
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":7}}`))
	require.NoError(t, c.Patch(t.Context(), deployment, patch))
	require.Equal(t, []string{"Deployment/shop/podinfo configured"}, once().Changes)

	app.Disruption = nil
	hash = commit(app, "apps/disruption-budget.yaml")
	require.Equal(t, []string{"PodDisruptionBudget/shop/podinfo deleted"}, once().Changes)
	err = c.Get(t.Context(), client.ObjectKeyFromObject(deployment), &policyv1.PodDisruptionBudget{})
	require.True(t, apierrors.IsNotFound(err), err)
	recorded, err := Revision(t.Context(), c, "sync-test", "sync")
	require.NoError(t, err)
	require.Equal(t, hash, recorded)
}

func TestRunRefusesBesideFlux(t *testing.T) {
	applier, err := apply.New(cluster.Config, "test")
	require.NoError(t, err)
	objects, err := applier.Apply(t.Context(), []byte(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: kustomizations.kustomize.toolkit.fluxcd.io}
spec:
  group: kustomize.toolkit.fluxcd.io
  scope: Namespaced
  names: {kind: Kustomization, plural: kustomizations}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
`))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, applier.Client().Delete(context.WithoutCancel(t.Context()), objects[0])) })
	sync, err := New(cluster.Config, Options{Interval: time.Second})
	require.NoError(t, err)
	require.ErrorContains(t, sync.Run(t.Context()), "Flux is installed in this cluster")
}
