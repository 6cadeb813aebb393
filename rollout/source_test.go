// SPDX-License-Identifier: Apache-2.0

package rollout_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
)

// tools answers for the objects of sync tools.
type tools struct {
	client.Reader
	status map[string]map[string]any
	err    error
}

func (r tools) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	if r.err != nil {
		return r.err
	}
	u := object.(*unstructured.Unstructured)
	status, found := r.status[u.GetKind()+" "+key.String()]
	if !found {
		return apierrors.NewNotFound(schema.GroupResource{Resource: u.GetKind()}, key.Name)
	}
	u.Object["status"] = status
	return nil
}

func TestSourceOf(t *testing.T) {
	flux := map[string]string{"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}
	helm := map[string]string{"helm.toolkit.fluxcd.io/name": "web", "helm.toolkit.fluxcd.io/namespace": "shop"}
	argo := func(id string) map[string]string { return map[string]string{"argocd.argoproj.io/tracking-id": id} }
	reader := tools{status: map[string]map[string]any{
		"Kustomization flux-system/apps": {"lastAttemptedRevision": "main@sha1:new", "lastAppliedRevision": "main@sha1:old"},
		"HelmRelease shop/web":           {"lastAttemptedRevision": "1.2.3"},
		"Application argocd/shop": {
			"sync":           map[string]any{"revision": "new"},
			"operationState": map[string]any{"syncResult": map[string]any{"revision": "old"}},
		},
		"Application team/shop": {"sync": map[string]any{"revision": int64(1)}},
	}}
	for name, c := range map[string]struct {
		labels, annotations map[string]string
		want                *rollout.Source
	}{
		"nobody":                                 {nil, nil, nil},
		"kustomization":                          {flux, nil, source("Flux", "Kustomization flux-system/apps", "main@sha1:new", "main@sha1:old")},
		"helm release":                           {helm, nil, source("Flux", "HelmRelease shop/web", "1.2.3", "1.2.3")},
		"argo":                                   {nil, argo("shop:apps/Deployment:shop/web"), source("ArgoCD", "Application argocd/shop", "new", "old")},
		"argo, another namespace, an odd status": {nil, argo("team_shop:apps/Deployment:shop/web"), source("ArgoCD", "Application team/shop", "", "")},
		"gone":                                   {nil, argo("other:apps/Deployment:shop/web"), source("ArgoCD", "Application argocd/other", "", "")},
		"said by itself": {flux, map[string]string{"sluice.dev/source-revision": "v7", "sluice.dev/source-author": "ada"}, &rollout.Source{
			Applied: "v7", RunSource: v1alpha1.RunSource{Tool: "Annotation", Revision: "v7", Author: "ada"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := rollout.SourceOf(t.Context(), reader, workload(c.labels, c.annotations))
			require.NoError(t, err)
			require.Equal(t, c.want, found)
		})
	}
	for name, err := range map[string]error{
		"forbidden": apierrors.NewForbidden(schema.GroupResource{}, "apps", nil), "no such kind": &meta.NoKindMatchError{},
	} {
		found, failed := rollout.SourceOf(t.Context(), tools{err: err}, workload(flux, nil))
		require.NoError(t, failed, name)
		require.Empty(t, found.Revision, name)
	}
	_, err := rollout.SourceOf(t.Context(), tools{err: errors.New("timeout")}, workload(flux, nil))
	require.ErrorContains(t, err, "read Kustomization flux-system/apps: timeout")
}

func source(tool, object, attempted, applied string) *rollout.Source {
	return &rollout.Source{Applied: applied, RunSource: v1alpha1.RunSource{Tool: tool, Object: object, Revision: attempted}}
}

func workload(labels, annotations map[string]string) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations}}
}
