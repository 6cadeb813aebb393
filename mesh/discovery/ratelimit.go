// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"cmp"
	"slices"
	"time"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh"
)

// limitsOf returns how often clients may ask the pods of workloads, by "namespace/kind/name", in order.
func limitsOf(objects []*v1alpha1.RateLimit) map[string][]mesh.RateLimit {
	limits := map[string][]mesh.RateLimit{}
	for _, object := range objects {
		called := calledName(object.Namespace, cmp.Or(object.Spec.TargetRef.Kind, kindDeployment), object.Spec.TargetRef.Name)
		limits[called] = append(limits[called], toRateLimit(object))
	}
	for _, of := range limits {
		slices.SortFunc(of, func(a, b mesh.RateLimit) int { return cmp.Compare(a.Name, b.Name) })
	}
	return limits
}

// toRateLimit rounds the time between two requests up, by less than a nanosecond.
func toRateLimit(object *v1alpha1.RateLimit) mesh.RateLimit {
	client := object.Spec.Client
	requests := max(client.Requests, 1)
	per := cmp.Or(client.Per.Duration, time.Second)
	burst := requests
	if client.Burst != nil {
		burst = max(*client.Burst, 1)
	}
	interval := (per + time.Duration(requests) - 1) / time.Duration(requests)
	limit := mesh.RateLimit{Name: object.Name, Mode: mesh.AccessEnforce, Interval: max(interval, 1), Burst: uint32(burst)}
	if object.Spec.Mode == v1alpha1.AccessAudit {
		limit.Mode = mesh.AccessAudit
	}
	for _, port := range object.Spec.Ports {
		limit.Ports = append(limit.Ports, toPort(port))
	}
	for _, route := range object.Spec.Routes {
		limit.Routes = append(limit.Routes, toRoute(route.Methods, route.Path))
	}
	return limit
}
