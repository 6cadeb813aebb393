// SPDX-License-Identifier: Apache-2.0

package flux

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Source is one path of one repository to sync.
type Source struct {
	// Name of the GitRepository and the Kustomization.
	Name   string
	URL    string
	Branch string
	Path   string
	// Interval of both, with pruning on; 10 s when 0.
	Interval time.Duration
}

//nolint:gochecknoglobals // Constants that Go cannot write as such.
var (
	gitRepository = schema.GroupVersionKind{Group: "source.toolkit.fluxcd.io", Version: "v1", Kind: "GitRepository"}
	kustomization = schema.GroupVersionKind{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Kind: "Kustomization"}
)

// Sync makes Flux sync a source.
func (f *Flux) Sync(ctx context.Context, source Source) error {
	if source.Interval == 0 {
		source.Interval = 10 * time.Second
	}
	_, err := f.applier.Apply(ctx, fmt.Appendf(nil, `
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata:
  name: %[1]s
  namespace: %[2]s
spec:
  interval: %[3]s
  url: %[4]s
  ref:
    branch: %[5]s
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: %[1]s
  namespace: %[2]s
spec:
  interval: %[3]s
  retryInterval: %[3]s
  timeout: 1m
  prune: true
  path: ./%[6]s
  sourceRef:
    kind: GitRepository
    name: %[1]s
`, source.Name, Namespace, source.Interval, source.URL, source.Branch, source.Path))
	if err != nil {
		return fmt.Errorf("sync %s: %w", source.Name, err)
	}
	return nil
}

// Poke makes Flux look at Git now instead of at the next interval. The Kustomization follows the
// GitRepository by itself.
func (f *Flux) Poke(ctx context.Context, name string) error {
	_, err := f.request(ctx, gitRepository, name)
	return err
}

// Suspend makes Flux leave the cluster alone, or take it up again.
func (f *Flux) Suspend(ctx context.Context, name string, suspend bool) error {
	return f.patch(ctx, kustomization, name, fmt.Appendf(nil, `{"spec":{"suspend":%t}}`, suspend))
}

// request asks for a reconciliation, and returns the name by which Flux says that it was done.
func (f *Flux) request(ctx context.Context, kind schema.GroupVersionKind, name string) (string, error) {
	now := time.Now().Format(time.RFC3339Nano)
	return now, f.patch(ctx, kind, name, fmt.Appendf(nil, `{"metadata":{"annotations":{"reconcile.fluxcd.io/requestedAt":%q}}}`, now))
}

func (f *Flux) patch(ctx context.Context, kind schema.GroupVersionKind, name string, patch []byte) error {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(kind)
	object.SetNamespace(Namespace)
	object.SetName(name)
	if err := f.applier.Client().Patch(ctx, object, client.RawPatch("application/merge-patch+json", patch)); err != nil {
		return fmt.Errorf("ask Flux to change %s %s: %w", kind.Kind, name, err)
	}
	return nil
}

// Applied is the commit that Flux has applied last, empty before the first, and what it says of
// its state.
func (f *Flux) Applied(ctx context.Context, name string) (commit, message string, err error) {
	object, err := f.read(ctx, name)
	if err != nil {
		return "", "", err
	}
	revision, _, _ := unstructured.NestedString(object.Object, "status", "lastAppliedRevision")
	_, commit, _ = strings.Cut(revision, "@sha1:")
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, entry := range conditions {
		condition, ok := entry.(map[string]any)
		if ok && condition["type"] == "Ready" {
			message, _ = condition["message"].(string)
		}
	}
	return commit, message, nil
}

func (f *Flux) read(ctx context.Context, name string) (*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(kustomization)
	if err := f.applier.Client().Get(ctx, client.ObjectKey{Namespace: Namespace, Name: name}, object); err != nil {
		return nil, fmt.Errorf("read Kustomization %s: %w", name, err)
	}
	return object, nil
}

// AwaitApplied pokes Flux and returns when it has applied a commit, which must be the repository's last:
// past one that is not, Flux may go without ever having applied it.
func (f *Flux) AwaitApplied(ctx context.Context, name, commit string) error {
	if err := f.Poke(ctx, name); err != nil {
		return err
	}
	return until(ctx, "has applied "+commit, func() (bool, string, error) {
		applied, message, err := f.Applied(ctx, name)
		return applied == commit, "it says: " + message, err
	})
}

// AwaitReapplied makes Flux compare the cluster with what it has fetched last, as it does every
// interval, and returns when it has.
func (f *Flux) AwaitReapplied(ctx context.Context, name string) error {
	asked, err := f.request(ctx, kustomization, name)
	if err != nil {
		return err
	}
	return until(ctx, "has reapplied "+name, func() (bool, string, error) {
		object, err := f.read(ctx, name)
		if err != nil {
			return false, "", err
		}
		handled, _, _ := unstructured.NestedString(object.Object, "status", "lastHandledReconcileAt")
		return handled == asked, fmt.Sprintf("asked at %s, it has handled %q", asked, handled), nil
	})
}

// until something of Flux holds; what it says of itself goes into the error.
func until(ctx context.Context, what string, holds func() (done bool, says string, err error)) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		done, says, err := holds()
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until Flux %s: %w (%s)", what, context.Cause(ctx), says)
		case <-ticker.C:
		}
	}
}

// Unsync removes a source's objects; what Flux has applied for it is pruned.
func (f *Flux) Unsync(ctx context.Context, name string) error {
	for _, kind := range []schema.GroupVersionKind{kustomization, gitRepository} {
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(kind)
		object.SetNamespace(Namespace)
		object.SetName(name)
		if err := f.applier.Client().Delete(ctx, object); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("stop syncing %s: %w", name, err)
		}
	}
	return nil
}
