// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// maxCircle bounds the search for Canaries that wait for each other.
const maxCircle = 100

// dependenciesOf are the Canaries that one depends on.
func dependenciesOf(canary *v1alpha1.Canary) []types.NamespacedName {
	keys := make([]types.NamespacedName, 0, len(canary.Spec.DependsOn))
	for _, reference := range canary.Spec.DependsOn {
		key := types.NamespacedName{Namespace: reference.Namespace, Name: reference.Name}
		if key.Namespace == "" {
			key.Namespace = canary.Namespace
		}
		keys = append(keys, key)
	}
	return keys
}

// dependencies reads what this Canary waits for, and whether that waits for this one.
func (o *observer) dependencies(ctx context.Context, s *scene) error {
	read := map[types.NamespacedName]*v1alpha1.Canary{}
	get := func(key types.NamespacedName) (*v1alpha1.Canary, error) {
		if other, known := read[key]; known {
			return other, nil
		}
		other := &v1alpha1.Canary{}
		if err := o.cached.Get(ctx, key, other); client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("read canary %s: %w", key, err)
		}
		read[key] = other
		return other, nil
	}
	for _, key := range dependenciesOf(s.canary) {
		other, err := get(key)
		if err != nil {
			return err
		}
		s.Dependencies = append(s.Dependencies, Dependency{Namespace: key.Namespace, Name: key.Name, Phase: other.Status.Phase})
	}
	var err error
	s.Circle, err = circle(s.canary, get)
	return err
}

// circle finds a way from a Canary along dependencies back to itself, breadth first: the shortest.
func circle(from *v1alpha1.Canary, get func(types.NamespacedName) (*v1alpha1.Canary, error)) ([]string, error) {
	start := client.ObjectKeyFromObject(from)
	ways := [][]types.NamespacedName{}
	for _, key := range dependenciesOf(from) {
		ways = append(ways, []types.NamespacedName{start, key})
	}
	seen := map[types.NamespacedName]bool{}
	for len(ways) > 0 && len(seen) < maxCircle {
		way := ways[0]
		ways = ways[1:]
		last := way[len(way)-1]
		if last == start {
			return names(way), nil
		}
		if seen[last] {
			continue
		}
		seen[last] = true
		canary, err := get(last)
		if err != nil {
			return nil, err
		}
		for _, key := range dependenciesOf(canary) {
			ways = append(ways, append(slices.Clone(way), key))
		}
	}
	return nil, nil
}

func names(keys []types.NamespacedName) []string {
	out := make([]string, len(keys))
	for i, key := range keys {
		out[i] = key.String()
	}
	return out
}
