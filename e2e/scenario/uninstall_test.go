// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"context"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// playUninstall: Sluice goes, and what it leaves is a Deployment that rolls out like any other.
func (f *fixture) playUninstall() {
	f.t.Helper()
	before := f.await("everything rests", resting)
	pods := before.UIDs(before.Canary.Status.Stable.PodTemplateHash)

	// First out of Git: what Git has, Flux would bring back.
	f.app.Canary = nil
	f.commit("Drop the Canary")
	require.NoError(f.t, f.flux.Poke(f.t.Context(), f.namespace))
	f.await("the Canary is gone", func(s timeline.State) bool { return s.Canary == nil })
	ctx := context.WithoutCancel(f.t.Context())
	f.t.Cleanup(func() { assert.NoError(f.t, f.InstallSluice(ctx)) })
	_, err := f.Run(f.t.Context(), "uninstall", "--timeout=1m")
	require.NoError(f.t, err)
	_, err = f.Kube.CoreV1().Namespaces().Get(f.t.Context(), system, metav1.GetOptions{})
	require.True(f.t, apierrors.IsNotFound(err), "its namespace is gone: %v", err)
	f.linger(5 * time.Second)
	f.expectNoFailures()
	after := f.timeline.State()
	require.Equal(f.t, pods, after.UIDs(before.Canary.Status.Stable.PodTemplateHash), "not a pod was touched")
	require.Equal(f.t, before.Deployment.Spec, after.Deployment.Spec)
	for label := range after.Deployment.Labels {
		require.NotContains(f.t, label, "sluice.dev/")
	}

	f.replaceMeshedClient()
	f.release("v3")
	state := f.await("v3 is rolled out", func(s timeline.State) bool {
		return rolledOut(s) && s.Deployment.Generation > after.Deployment.Generation
	})
	for _, pod := range state.Pods {
		if pod.Labels[timeline.LabelHash] != "" && pod.DeletionTimestamp == nil {
			require.Empty(f.t, pod.Spec.InitContainers, "%s has no sidecar", pod.Name)
		}
	}
	f.expectVersion("v3")
}

// replaceMeshedClient starts the meshed client anew, now without a sidecar. One that keeps its sidecar
// is told of no new pod any more.
func (f *fixture) replaceMeshedClient() {
	f.t.Helper()
	f.expectNoFailures()
	pods := f.Kube.CoreV1().Pods(f.namespace)
	require.NoError(f.t, pods.Delete(f.t.Context(), f.clients[0].Name, metav1.DeleteOptions{}))
	f.clients = f.clients[1:]
	f.join(f.client("restarted", true, 50))
}
