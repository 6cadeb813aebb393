// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"cmp"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh"
)

// overloadOf is what a policy says of its Service's own pods, without what is a pod's own; nil when it says
// nothing.
func overloadOf(trustDomain spiffeid.TrustDomain, policy *v1alpha1.TrafficPolicy) *mesh.Overload {
	written := policy.Spec.Overload
	if written == nil {
		return nil
	}
	made := &mesh.Overload{Service: policy.Name, MaxParallelRequests: orElse(written.MaxParallelRequests, 0)}
	for i := range written.Classes {
		made.Classes = append(made.Classes, toClass(trustDomain, policy.Namespace, &written.Classes[i]))
	}
	return made
}

func toClass(trustDomain spiffeid.TrustDomain, namespace string, written *v1alpha1.TrafficClass) mesh.TrafficClass {
	class := mesh.TrafficClass{Priority: toPriority(written.Priority)}
	if written.From != nil {
		callers := toAccessRule(trustDomain, namespace, &v1alpha1.AccessRule{From: *written.From})
		class.Callers = &callers
	}
	for _, route := range written.Routes {
		class.Routes = append(class.Routes, toRoute(route.Methods, route.Path))
	}
	if written.BytesPerSecond != nil {
		class.BytesPerSecond = uint64(max(*written.BytesPerSecond, 1024))
	}
	return class
}

// toPriority is default for what the API server does not let in.
func toPriority(written v1alpha1.TrafficPriority) mesh.Priority {
	switch written {
	case v1alpha1.PriorityCritical:
		return mesh.PriorityCritical
	case v1alpha1.PriorityLow:
		return mesh.PriorityLow
	case v1alpha1.PriorityDefault:
	}
	return mesh.PriorityDefault
}

// overloadsOf returns what holds for a pod. Of several Services that lead to a port the first by name has it.
func (x *Index) overloadsOf(found *pod) []mesh.Overload {
	var ports map[uint16]string // Made when it is needed: there are thousands of pods.
	for _, port := range x.ports[found.key()] {
		name := port.service.Name
		said := x.policies[found.namespace+"/"+name].overload
		if said == nil || ports[port.number] != "" && ports[port.number] <= name {
			continue
		}
		if ports == nil {
			ports = map[uint16]string{}
		}
		ports[port.number] = name
	}
	if ports == nil {
		return nil
	}
	byService := map[string]*mesh.Overload{}
	for port, name := range ports {
		if byService[name] == nil {
			made := *x.policies[found.namespace+"/"+name].overload
			made.Probes = x.access.probes[found.key()]
			byService[name] = &made
		}
		byService[name].Ports = append(byService[name].Ports, port)
	}
	var overloads []mesh.Overload
	for _, made := range byService {
		slices.Sort(made.Ports)
		overloads = append(overloads, *made)
	}
	slices.SortFunc(overloads, func(a, b mesh.Overload) int { return cmp.Compare(a.Service, b.Service) })
	return overloads
}
