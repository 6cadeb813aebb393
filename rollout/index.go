// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Fields by which what is watched is indexed: the metadata of ReplicaSets by their owner, Canaries by
// their target and by what they depend on.
const (
	fieldOwner      = "metadata.ownerReferences.uid"
	fieldTarget     = "spec.targetRef.name"
	fieldDependency = "spec.dependsOn"
)

// index makes what is watched findable by its fields: a change must not cost a look through thousands.
func index(ctx context.Context, fields client.FieldIndexer) error {
	for field, valuesOf := range map[string]func(*v1alpha1.Canary) []string{
		fieldTarget: func(canary *v1alpha1.Canary) []string { return []string{canary.Spec.TargetRef.Name} },
		fieldDependency: func(canary *v1alpha1.Canary) []string {
			var keys []string
			for _, key := range dependenciesOf(canary) {
				keys = append(keys, key.String())
			}
			return keys
		},
	} {
		err := fields.IndexField(ctx, &v1alpha1.Canary{}, field, func(one client.Object) []string {
			if canary, ok := one.(*v1alpha1.Canary); ok {
				return valuesOf(canary)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("index canaries by %s: %w", field, err)
		}
	}

	set := &metav1.PartialObjectMetadata{}
	set.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
	err := fields.IndexField(ctx, set, fieldOwner, func(one client.Object) []string {
		var owners []string
		for _, reference := range one.GetOwnerReferences() {
			owners = append(owners, string(reference.UID))
		}
		return owners
	})
	if err != nil {
		return fmt.Errorf("index replicasets by owner: %w", err)
	}
	return nil
}
