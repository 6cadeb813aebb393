// SPDX-License-Identifier: Apache-2.0

package meshpb

import "github.com/sluice-mesh/sluice/mesh"

func fromOverload(overload mesh.Overload) *Overload {
	return &Overload{
		Service: overload.Service, Ports: convert(overload.Ports, fromPort), MaxParallelRequests: overload.MaxParallelRequests,
		Classes: convert(overload.Classes, fromClass),
		Probes:  convert(overload.Probes, fromProbe),
	}
}

func toOverload(message *Overload) mesh.Overload {
	return mesh.Overload{
		Service: message.GetService(), Ports: convert(message.GetPorts(), toPort), MaxParallelRequests: message.GetMaxParallelRequests(),
		Classes: convert(message.GetClasses(), toClass),
		Probes:  convert(message.GetProbes(), toProbe),
	}
}

func fromClass(class mesh.TrafficClass) *TrafficClass {
	message := &TrafficClass{
		Priority: fromPriority(class.Priority), Routes: convert(class.Routes, fromRoute), BytesPerSecond: class.BytesPerSecond,
	}
	if class.Callers != nil {
		message.Callers = fromRule(*class.Callers)
	}
	return message
}

func toClass(message *TrafficClass) mesh.TrafficClass {
	class := mesh.TrafficClass{
		Priority: toPriority(message.GetPriority()), Routes: convert(message.GetRoutes(), toRoute), BytesPerSecond: message.GetBytesPerSecond(),
	}
	if message.GetCallers() != nil {
		callers := toRule(message.GetCallers())
		class.Callers = &callers
	}
	return class
}

func fromPriority(priority mesh.Priority) Priority {
	switch priority {
	case mesh.PriorityCritical:
		return Priority_PRIORITY_CRITICAL
	case mesh.PriorityLow:
		return Priority_PRIORITY_LOW
	case mesh.PriorityDefault:
	}
	return Priority_PRIORITY_DEFAULT
}

// toPriority reads a priority that this version does not know as default.
func toPriority(priority Priority) mesh.Priority {
	switch priority {
	case Priority_PRIORITY_CRITICAL:
		return mesh.PriorityCritical
	case Priority_PRIORITY_LOW:
		return mesh.PriorityLow
	case Priority_PRIORITY_DEFAULT:
	}
	return mesh.PriorityDefault
}
