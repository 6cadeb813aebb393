// SPDX-License-Identifier: Apache-2.0

//go:build harness

package flux

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/e2e/binaries"
	"github.com/sluice-mesh/sluice/e2e/gitserver"
	"github.com/sluice-mesh/sluice/e2e/harness"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
)

var cluster *harness.Harness

func TestMain(m *testing.M) { os.Exit(harness.Main(m, harness.Options{}, &cluster)) }

// TestFluxSyncs runs the real controllers on a real API server.
func TestFluxSyncs(t *testing.T) {
	builder, err := binaries.New(t.Output())
	require.NoError(t, err)
	programs, err := Build(t.Context(), builder)
	require.NoError(t, err)
	server, err := gitserver.Start(gitserver.Options{Directory: t.TempDir(), Address: "127.0.0.1:0"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(context.WithoutCancel(t.Context()))) })
	repo, err := server.Init(t.Context(), "fleet")
	require.NoError(t, err)

	f, err := Start(t.Context(), Options{Programs: programs, Kubeconfig: cluster.Kubeconfig, Directory: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Stop()) })
	app := sampleapp.App{Namespace: "shop", Version: "v1", Disruption: &sampleapp.Disruption{MaxUnavailable: "1"}}
	release := func(without ...string) {
		files, err := app.Files("apps/shop")
		require.NoError(t, err)
		commit, err := repo.Commit(t.Context(), gitserver.Change{Files: files, Delete: without, Author: "Ada <ada@example.com>", Message: "Release " + app.Version})
		require.NoError(t, err)
		if app.Version == "v1" {
			require.NoError(t, f.Sync(t.Context(), Source{Name: "shop", URL: server.URL("fleet"), Branch: gitserver.Branch, Path: "apps/shop"}))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		require.NoError(t, f.AwaitApplied(ctx, "shop", commit))
	}
	release()
	var deployment appsv1.Deployment
	key := client.ObjectKey{Namespace: "shop", Name: "podinfo"}
	require.NoError(t, f.applier.Client().Get(t.Context(), key, &deployment))
	require.Equal(t, []string{"--app-version=v1"}, deployment.Spec.Template.Spec.Containers[0].Args)

	since := time.Now()
	app.Version, app.Disruption = "v2", nil
	release("apps/shop/disruption-budget.yaml")
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		did, err := f.Actions(since)
		require.NoError(c, err)
		verbs := map[string]string{}
		for _, action := range did {
			verbs[action.Object] = action.Verb
		}
		require.Equal(c, map[string]string{"Deployment/shop/podinfo": "configured", "PodDisruptionBudget/shop/podinfo": "deleted"}, verbs)
	}, 10*time.Second, 100*time.Millisecond)

	// With Flux stopped, what it brought goes and what it has applied stays.
	require.NoError(t, f.Stop())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, Uninstall(ctx, f.applier.Client()))
	require.NoError(t, Uninstall(ctx, f.applier.Client()), "nothing is left to remove")
	require.NoError(t, f.applier.Client().Get(ctx, key, &deployment))
}
