// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"cmp"
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/sluice-mesh/sluice/mesh"
)

// Destination returns where an address leads. It is pure, as all of the Index.
func (x *Index) Destination(address netip.AddrPort) *mesh.Destination {
	address = netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
	if found, ok := x.services[address]; ok {
		return x.serviceDestination(address, found)
	}
	if found := x.addresses[address.Addr()]; found != nil {
		return x.podDestination(address, found)
	}
	return &mesh.Destination{Address: address.String(), Unknown: true, Protocol: mesh.ProtocolDetect}
}

func (x *Index) serviceDestination(address netip.AddrPort, found servicePort) *mesh.Destination {
	endpoints := x.endpointsOf(address.Addr(), found)
	destination := &mesh.Destination{
		Address: address.String(),
		Service: mesh.Service{
			Namespace: found.service.Namespace,
			Name:      found.service.Name,
			Port:      address.Port(),
		},
		Protocol:  protocolOf(found.port),
		HTTP2:     isHTTP2(found.port),
		Endpoints: endpoints,
		Splits:    x.splitsOf(endpoints),
	}
	x.policies[keyOf(found.service)].applyTo(destination)
	return destination
}

// endpointsOf returns the endpoints of a Service's port that can answer, in the family of the
// address that was dialled.
func (x *Index) endpointsOf(address netip.Addr, found servicePort) []mesh.Endpoint {
	family := discoveryv1.AddressTypeIPv4
	if address.Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	var endpoints []mesh.Endpoint
	for _, slice := range x.slices[keyOf(found.service)] {
		if slice.AddressType != family {
			continue
		}
		port := portNamed(slice, found.port.Name)
		if port == 0 {
			continue
		}
		for _, entry := range slice.Endpoints {
			if endpoint, ok := x.endpointOf(slice, entry, port); ok {
				endpoints = append(endpoints, endpoint)
			}
		}
	}
	// An endpoint that moves from one slice to another is in both for a moment; the ready one counts.
	slices.SortFunc(endpoints, func(a, b mesh.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), compareBool(b.Ready, a.Ready))
	})
	endpoints = slices.CompactFunc(endpoints, func(a, b mesh.Endpoint) bool { return a.Address == b.Address })
	keepHints(endpoints)
	return endpoints
}

// endpointOf returns a slice's entry as an endpoint; ok is false when it takes no requests.
func (x *Index) endpointOf(slice *discoveryv1.EndpointSlice, entry discoveryv1.Endpoint, port uint16) (endpoint mesh.Endpoint, ok bool) {
	ready := entry.Conditions.Ready == nil || *entry.Conditions.Ready
	terminating := deref(entry.Conditions.Terminating)
	if len(entry.Addresses) == 0 || !ready && (!terminating || !deref(entry.Conditions.Serving)) {
		return mesh.Endpoint{}, false
	}
	address, err := netip.ParseAddr(entry.Addresses[0])
	if err != nil {
		return mesh.Endpoint{}, false
	}
	address = address.Unmap()
	found := x.addresses[address]
	if name := podNameOf(slice, entry); name != "" {
		// A pod that we have not seen yet, or that has gone: without its labels a canary's pod
		// would look like one that no split speaks of, and get requests that nobody weighed.
		if found = x.pods[name]; found == nil {
			return mesh.Endpoint{}, false
		}
	}
	if found != nil {
		endpoint = found.endpoint(port)
		terminating = terminating || found.terminating
	}
	endpoint.Address = netip.AddrPortFrom(address, port).String()
	endpoint.Ready = ready && !terminating
	endpoint.Hints = hintsOf(entry.Hints)
	return endpoint, true
}

// podDestination leads to one pod. While its workload is split, the workload's other pods are there
// too if the port is one of a Service: who dials an address out of a headless Service means the
// workload. Ports of no Service, such as those of scrapes, mean the pod.
func (x *Index) podDestination(address netip.AddrPort, found *pod) *mesh.Destination {
	own := found.endpoint(address.Port())
	own.Address = address.String()
	protocol, served := x.protocolsOf(found)[address.Port()]
	destination := &mesh.Destination{
		Address:    own.Address,
		PodAddress: true,
		Service:    x.onlyServiceOf(found, address.Port()),
		Protocol:   cmp.Or(protocol, mesh.ProtocolDetect),
		HTTP2:      slices.Contains(x.http2PortsOf(found), address.Port()),
		Endpoints:  []mesh.Endpoint{own},
	}
	x.policies[destination.Service.Namespace+"/"+destination.Service.Name].applyTo(destination)
	if !served || x.splits[found.workload] == nil {
		return destination
	}
	for _, other := range x.workloads[found.workload] {
		if other != found && other.ready && other.address.Is4() == address.Addr().Is4() {
			destination.Endpoints = append(destination.Endpoints, other.endpoint(address.Port()))
		}
	}
	slices.SortFunc(destination.Endpoints, func(a, b mesh.Endpoint) int { return cmp.Compare(a.Address, b.Address) })
	destination.Splits = x.splitsOf(destination.Endpoints)
	return destination
}

// onlyServiceOf returns the Service that a pod's port belongs to when the pod belongs to one only.
func (x *Index) onlyServiceOf(found *pod, port uint16) mesh.Service {
	var only mesh.Service
	for _, candidate := range x.ports[found.key()] {
		if only.Name != "" && only.Name != candidate.service.Name {
			return mesh.Service{}
		}
		if only.Name == "" {
			only = mesh.Service{Namespace: candidate.service.Namespace, Name: candidate.service.Name}
		}
		if candidate.number == port {
			only.Port = candidate.service.Port
		}
	}
	return only
}

// protocolsOf returns the protocols of a pod's ports as its Services name them. Services that
// disagree leave it to the proxy to look.
func (x *Index) protocolsOf(found *pod) map[uint16]mesh.Protocol {
	var protocols map[uint16]mesh.Protocol
	for _, port := range x.ports[found.key()] {
		if protocols == nil {
			protocols = map[uint16]mesh.Protocol{}
		}
		if known, ok := protocols[port.number]; ok && known != port.protocol {
			protocols[port.number] = mesh.ProtocolDetect
			continue
		}
		protocols[port.number] = port.protocol
	}
	return protocols
}

// http2PortsOf returns a pod's ports that all of their Services declare to speak HTTP/2, in order.
func (x *Index) http2PortsOf(found *pod) []uint16 {
	var declared, not []uint16
	for _, port := range x.ports[found.key()] {
		if port.http2 {
			declared = append(declared, port.number)
		} else {
			not = append(not, port.number)
		}
	}
	declared = slices.DeleteFunc(declared, func(port uint16) bool { return slices.Contains(not, port) })
	slices.Sort(declared)
	return slices.Compact(declared)
}

// Inbound returns what the proxy of a pod ("namespace/name") needs to serve it. It is empty for a
// pod that is not known.
func (x *Index) Inbound(key string) *mesh.Inbound {
	found := x.pods[key]
	if found == nil {
		return &mesh.Inbound{}
	}
	inbound := &mesh.Inbound{
		Workload:        found.workload,
		PodTemplateHash: found.hash,
		Protocols:       x.protocolsOf(found),
		HTTP2Ports:      x.http2PortsOf(found),
		Access:          x.access.of(found),
		Location:        found.location,
		Overloads:       x.overloadsOf(found),
	}
	if split := x.splits[found.workload]; split != nil {
		inbound.Split = &split.Split
	}
	for _, other := range x.workloads[found.workload] {
		if other != found && other.identity != "" && other.ready && other.address.Is4() == found.address.Is4() {
			inbound.Peers = append(inbound.Peers, other.peer)
		}
	}
	return inbound
}

func portNamed(slice *discoveryv1.EndpointSlice, name string) uint16 {
	for _, port := range slice.Ports {
		if deref(port.Name) == name && isTCP(port.Protocol) && port.Port != nil {
			return toPort(*port.Port)
		}
	}
	return 0
}

// podNameOf returns "namespace/name" of the pod behind a slice's entry, or nothing.
func podNameOf(slice *discoveryv1.EndpointSlice, entry discoveryv1.Endpoint) string {
	if entry.TargetRef == nil || entry.TargetRef.Kind != "Pod" {
		return ""
	}
	return slice.Namespace + "/" + entry.TargetRef.Name
}
