// SPDX-License-Identifier: Apache-2.0

package flux

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const groupSuffix = ".toolkit.fluxcd.io"

// askAgain is how long a definition may take to go before the API server is asked again; longer than
// the 5 s after which it looks a second time whether a definition's objects have gone.
const askAgain = 10 * time.Second

// Uninstall removes the definitions and objects that Start and Sync brought, when no Flux runs any
// longer, and leaves alone what Flux has applied. A Flux that somebody else installed is not
// touched: its definitions were not written by our field manager.
func Uninstall(ctx context.Context, c client.Client) error {
	var definitions metav1.PartialObjectMetadataList
	definitions.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinitionList"})
	if err := c.List(ctx, &definitions); err != nil {
		return fmt.Errorf("uninstall Flux: list definitions: %w", err)
	}
	ours := false
	for i := range definitions.Items {
		definition := &definitions.Items[i]
		if !strings.HasSuffix(definition.Name, groupSuffix) || !writtenByUs(definition) {
			continue
		}
		ours = true
		if err := c.Delete(ctx, definition); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("uninstall Flux: %w", err)
		}
	}
	if !ours {
		return nil
	}
	// Definitions go when their objects have gone, and those wait for controllers that do not run.
	for _, kind := range []schema.GroupVersionKind{kustomization, gitRepository} {
		if err := release(ctx, c, kind); err != nil {
			return fmt.Errorf("uninstall Flux: %w", err)
		}
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}
	if err := c.Delete(ctx, namespace); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("uninstall Flux: %w", err)
	}
	for i := range definitions.Items {
		definition := &definitions.Items[i]
		if strings.HasSuffix(definition.Name, groupSuffix) && writtenByUs(definition) {
			if err := awaitGone(ctx, c, definition); err != nil {
				return fmt.Errorf("uninstall Flux: %w", err)
			}
		}
	}
	return awaitGone(ctx, c, namespace)
}

func writtenByUs(object client.Object) bool {
	for _, entry := range object.GetManagedFields() {
		if entry.Manager == fieldManager {
			return true
		}
	}
	return false
}

// release takes the finalizers off all objects of a kind.
func release(ctx context.Context, c client.Client, kind schema.GroupVersionKind) error {
	var list metav1.PartialObjectMetadataList
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	if err := c.List(ctx, &list, client.InNamespace(Namespace)); err != nil {
		if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("list %s: %w", kind.Kind, err)
	}
	for i := range list.Items {
		object := &list.Items[i]
		object.SetGroupVersionKind(kind)
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
		if err := c.Patch(ctx, object, patch); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("release %s %s: %w", kind.Kind, object.Name, err)
		}
	}
	return nil
}

// awaitGone also changes an object that stays. The API server's finalizer of definitions gives up when
// it fails to list the objects and then meets a conflict on its own note of that failure: it counts on
// a change to call it again, and passes over its own. The next call would be its resync, in minutes.
func awaitGone(ctx context.Context, c client.Client, object client.Object) error {
	look, again := time.NewTicker(200*time.Millisecond), time.NewTicker(askAgain)
	defer look.Stop()
	defer again.Stop()
	for {
		err := c.Get(ctx, client.ObjectKeyFromObject(object), object)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait for the end of %s: %w", object.GetName(), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of %s: %w", object.GetName(), context.Cause(ctx))
		case now := <-again.C:
			touch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil,
				`{"metadata":{"annotations":{"e2e.sluice.dev/asked-again-at":%q}}}`, now.Format(time.RFC3339)))
			if err := c.Patch(ctx, object, touch); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("ask again for the end of %s: %w", object.GetName(), err)
			}
		case <-look.C:
		}
	}
}
