// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"

	"helm.sh/helm/v4/pkg/chart/common"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// everything is what install may have applied, whichever way the Deployments were held.
func (o *renderOptions) everything(capabilities *common.Capabilities) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	for _, mode := range []string{"policy", "webhook"} {
		options := *o
		options.set = append(slices.Clone(options.set), "hold.mode="+mode)
		objects, err := render(&options, capabilities)
		if err != nil {
			return nil, err
		}
		for _, object := range objects {
			if !slices.ContainsFunc(all, func(other *unstructured.Unstructured) bool { return same(object, other) }) {
				all = append(all, object)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *unstructured.Unstructured) int { return rank(a.GetKind()) - rank(b.GetKind()) })
	return all, nil
}

func same(a, b *unstructured.Unstructured) bool {
	return a.GroupVersionKind() == b.GroupVersionKind() && client.ObjectKeyFromObject(a) == client.ObjectKeyFromObject(b)
}

// stale is what an installation that holds by the other means has left in the cluster.
func (o *renderOptions) stale(capabilities *common.Capabilities, current []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	all, err := o.everything(capabilities)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(object *unstructured.Unstructured) bool {
		return slices.ContainsFunc(current, func(other *unstructured.Unstructured) bool { return same(object, other) })
	}), nil
}
