// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Labels and annotations by which sync tools mark what they applied.
const (
	labelKustomization      = "kustomize.toolkit.fluxcd.io/name"
	labelKustomizationSpace = "kustomize.toolkit.fluxcd.io/namespace"
	labelHelmRelease        = "helm.toolkit.fluxcd.io/name"
	labelHelmReleaseSpace   = "helm.toolkit.fluxcd.io/namespace"
	annotationTracking      = "argocd.argoproj.io/tracking-id"
	argoNamespace           = "argocd"
)

// +kubebuilder:rbac:groups=kustomize.toolkit.fluxcd.io,resources=kustomizations,verbs=get
// +kubebuilder:rbac:groups=helm.toolkit.fluxcd.io,resources=helmreleases,verbs=get
// +kubebuilder:rbac:groups=argoproj.io,resources=applications,verbs=get

// Source is where a workload came from. Attempted is the revision that the tool applies now or did
// last, Applied the last one that it has applied whole.
type Source struct {
	v1alpha1.RunSource
	Applied string
}

// tracker is one tool's way of marking what it applied.
type tracker struct {
	tool               string
	kind               schema.GroupVersionKind
	key                client.ObjectKey
	attempted, applied []string
}

// SourceOf finds out which revision of Git a workload is at, as its sync tool says. It returns nil
// when no tool has marked it. A tool's object that is absent or must not be read leaves the revision
// empty: it is unknown, which is no error.
func SourceOf(ctx context.Context, reader client.Reader, workload client.Object) (*Source, error) {
	annotations := workload.GetAnnotations()
	if revision := annotations[v1alpha1.AnnotationSourceRevision]; revision != "" {
		return &Source{Applied: revision, RunSource: v1alpha1.RunSource{
			Tool: v1alpha1.SourceAnnotation, Revision: revision, Author: annotations[v1alpha1.AnnotationSourceAuthor],
		}}, nil
	}
	t := trackerOf(workload.GetLabels(), annotations)
	if t == nil {
		return nil, nil
	}
	source := &Source{RunSource: v1alpha1.RunSource{
		Tool: t.tool, Object: fmt.Sprintf("%s %s", t.kind.Kind, t.key), Author: annotations[v1alpha1.AnnotationSourceAuthor],
	}}
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(t.kind)
	err := reader.Get(ctx, t.key, object)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err), meta.IsNoMatchError(err):
		return source, nil
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", source.Object, err)
	}
	source.Revision = nested(object, t.attempted)
	source.Applied = nested(object, t.applied)
	return source, nil
}

func nested(object *unstructured.Unstructured, path []string) string {
	text, _, err := unstructured.NestedString(object.Object, path...)
	if err != nil {
		return ""
	}
	return text
}

func trackerOf(labels, annotations map[string]string) *tracker {
	attempted, applied := []string{"status", "lastAttemptedRevision"}, []string{"status", "lastAppliedRevision"}
	switch {
	case labels[labelKustomization] != "":
		return &tracker{
			tool: v1alpha1.SourceFlux, attempted: attempted, applied: applied,
			kind: schema.GroupVersionKind{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Kind: "Kustomization"},
			key:  client.ObjectKey{Namespace: labels[labelKustomizationSpace], Name: labels[labelKustomization]},
		}
	case labels[labelHelmRelease] != "":
		return &tracker{
			tool: v1alpha1.SourceFlux, attempted: attempted, applied: attempted,
			kind: schema.GroupVersionKind{Group: "helm.toolkit.fluxcd.io", Version: "v2", Kind: "HelmRelease"},
			key:  client.ObjectKey{Namespace: labels[labelHelmReleaseSpace], Name: labels[labelHelmRelease]},
		}
	case annotations[annotationTracking] != "":
		return argoTracker(annotations[annotationTracking])
	}
	return nil
}

// argoTracker reads "application:group/kind:namespace/name"; applications of other namespaces than
// Argo CD's own are written namespace_application.
func argoTracker(id string) *tracker {
	application, _, _ := strings.Cut(id, ":")
	key := client.ObjectKey{Namespace: argoNamespace, Name: application}
	if namespace, name, found := strings.Cut(application, "_"); found {
		key = client.ObjectKey{Namespace: namespace, Name: name}
	}
	return &tracker{
		tool: v1alpha1.SourceArgoCD, key: key,
		kind:      schema.GroupVersionKind{Group: "argoproj.io", Version: "v1alpha1", Kind: "Application"},
		attempted: []string{"status", "sync", "revision"},
		applied:   []string{"status", "operationState", "syncResult", "revision"},
	}
}
