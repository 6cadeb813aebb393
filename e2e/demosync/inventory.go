// SPDX-License-Identifier: Apache-2.0

package demosync

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/object"
	"github.com/fluxcd/pkg/ssa"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The inventory is a ConfigMap: one line per object that was applied, as
// "<id> <version>", so that what left Git can be found and deleted.
const (
	keyRevision = "revision"
	keyObjects  = "objects"
)

// entry is one object of the inventory.
type entry struct {
	id      object.ObjMetadata
	version string
}

func (e entry) String() string { return e.id.String() + " " + e.version }

func inventory(objects []*unstructured.Unstructured) string {
	lines := make([]string, len(objects))
	for i, o := range objects {
		lines[i] = entry{object.UnstructuredToObjMetadata(o), o.GroupVersionKind().Version}.String()
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// gone returns what an inventory has and another has not.
func gone(before, after string) ([]*unstructured.Unstructured, error) {
	kept := map[string]bool{}
	for line := range strings.SplitSeq(after, "\n") {
		id, _, _ := strings.Cut(line, " ")
		kept[id] = true
	}
	var out []*unstructured.Unstructured
	for line := range strings.SplitSeq(before, "\n") {
		id, version, _ := strings.Cut(line, " ")
		if line == "" || kept[id] {
			continue
		}
		meta, err := object.ParseObjMetadata(id)
		if err != nil {
			return nil, fmt.Errorf("read the inventory: %w", err)
		}
		o := &unstructured.Unstructured{}
		o.SetGroupVersionKind(schema.GroupVersionKind{Group: meta.GroupKind.Group, Version: version, Kind: meta.GroupKind.Kind})
		o.SetNamespace(meta.Namespace)
		o.SetName(meta.Name)
		out = append(out, o)
	}
	return out, nil
}

// prune deletes what the last inventory has and Git has no longer.
func (s *Sync) prune(ctx context.Context, objects []*unstructured.Unstructured) ([]string, error) {
	var last corev1.ConfigMap
	err := s.manager.Client().Get(ctx, client.ObjectKey{Namespace: s.options.Namespace, Name: s.options.Name}, &last)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the inventory: %w", err)
	}
	stale, err := gone(last.Data[keyObjects], inventory(objects))
	if err != nil || len(stale) == 0 {
		return nil, err
	}
	options := ssa.DefaultDeleteOptions()
	options.Inclusions = s.manager.GetOwnerLabels(s.options.Name, s.options.Namespace)
	deleted, err := s.manager.DeleteAll(ctx, stale, options)
	if err != nil {
		return nil, fmt.Errorf("prune: %w", err)
	}
	lines := make([]string, len(deleted.Entries))
	for i, e := range deleted.Entries {
		lines[i] = e.String()
	}
	return lines, nil
}

// record writes the inventory if it has changed.
func (s *Sync) record(ctx context.Context, objects []*unstructured.Unstructured) error {
	namespace := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": s.options.Namespace},
	}}
	record := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": s.options.Name, "namespace": s.options.Namespace},
		"data":     map[string]any{keyRevision: s.revision, keyObjects: inventory(objects)},
	}}
	for _, o := range []*unstructured.Unstructured{namespace, record} {
		// Apply writes only when something differs.
		if _, err := s.manager.Apply(ctx, o, ssa.DefaultApplyOptions()); err != nil {
			return fmt.Errorf("record the inventory: %w", err)
		}
	}
	return nil
}

// Revision reads from the inventory which commit a cluster was last brought to.
func Revision(ctx context.Context, c client.Client, namespace, name string) (string, error) {
	record := corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := c.Get(ctx, client.ObjectKeyFromObject(&record), &record); err != nil {
		return "", fmt.Errorf("read the inventory: %w", err)
	}
	return record.Data[keyRevision], nil
}
