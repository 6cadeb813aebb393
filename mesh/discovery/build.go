// SPDX-License-Identifier: Apache-2.0

// Package discovery tells each proxy where requests go. The state of the cluster (Inputs) becomes
// an immutable Index by a pure function; streams carry to each proxy what it has subscribed to, and
// bring back which version it runs, from which the status of TrafficSplits is written.
//
// It must not know Canaries or runs: a TrafficSplit is all that it sees of the rollout. It writes
// nothing to the cluster but the status of TrafficSplits.
package discovery

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh"
)

// Inputs are the objects that discovery reads. They are never changed.
type Inputs struct {
	Services       []*corev1.Service
	EndpointSlices []*discoveryv1.EndpointSlice
	Pods           []*corev1.Pod
	ReplicaSets    []*metav1.PartialObjectMetadata
	TrafficSplits  []*v1alpha1.TrafficSplit
	// TrafficPolicies have the names of their Services.
	TrafficPolicies []*v1alpha1.TrafficPolicy
	// AccessPolicies and RateLimits name workloads; Namespaces say what holds without them, or else DefaultAccess.
	AccessPolicies []*v1alpha1.AccessPolicy
	RateLimits     []*v1alpha1.RateLimit
	Namespaces     []*metav1.PartialObjectMetadata
	DefaultAccess  mesh.AccessDefault
}

// Index answers what an address leads to, at one moment. It is immutable.
type Index struct {
	services map[netip.AddrPort]servicePort
	// slices by "namespace/name" of their Service.
	slices map[string][]*discoveryv1.EndpointSlice
	// pods by "namespace/name".
	pods      map[string]*pod
	addresses map[netip.Addr]*pod
	// workloads by "namespace/name".
	workloads map[string][]*pod
	splits    map[string]*split
	// policies by "namespace/name" of the Service.
	policies map[string]trafficPolicy
	// ports by "namespace/name" of the pod.
	ports map[string][]podPort
	// zones by the name of their node.
	zones  map[string]string
	access access
}

type servicePort struct {
	service *corev1.Service
	port    *corev1.ServicePort
}

// podPort is a port of a pod that a Service leads to.
type podPort struct {
	number   uint16
	protocol mesh.Protocol
	http2    bool
	service  mesh.Service
}

type split struct {
	mesh.Split
	object *v1alpha1.TrafficSplit
}

// Build makes the Index of the inputs. It is pure.
func Build(trustDomain spiffeid.TrustDomain, inputs Inputs) *Index {
	index := &Index{
		services:  map[netip.AddrPort]servicePort{},
		slices:    map[string][]*discoveryv1.EndpointSlice{},
		pods:      make(map[string]*pod, len(inputs.Pods)),
		addresses: make(map[netip.Addr]*pod, len(inputs.Pods)),
		workloads: map[string][]*pod{},
		splits:    map[string]*split{},
		policies:  policiesOf(trustDomain, inputs.TrafficPolicies),
		ports:     map[string][]podPort{},
		zones:     map[string]string{},
		access:    newAccess(trustDomain, inputs),
	}
	index.addServices(inputs.Services)
	index.addSlices(inputs.EndpointSlices, inputs.Services)
	index.addSplits(inputs.TrafficSplits)
	index.addPods(trustDomain, inputs)
	return index
}

func (x *Index) addServices(services []*corev1.Service) {
	for _, service := range services {
		for _, text := range service.Spec.ClusterIPs {
			address, err := netip.ParseAddr(text)
			if err != nil {
				continue // Headless: "None". Its pods are found by their own addresses.
			}
			for at := range service.Spec.Ports {
				port := &service.Spec.Ports[at]
				if isTCP(&port.Protocol) {
					x.services[netip.AddrPortFrom(address.Unmap(), toPort(port.Port))] = servicePort{service, port}
				}
			}
		}
	}
}

func (x *Index) addSlices(list []*discoveryv1.EndpointSlice, services []*corev1.Service) {
	byKey := make(map[string]*corev1.Service, len(services))
	for _, service := range services {
		byKey[keyOf(service)] = service
	}
	for _, slice := range list {
		x.addZones(slice)
		key := slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
		service := byKey[key]
		if service == nil {
			continue
		}
		x.slices[key] = append(x.slices[key], slice)
		for _, port := range slice.Ports {
			found := podPortOf(service, port)
			if found.number == 0 {
				continue
			}
			for _, endpoint := range slice.Endpoints {
				if name := podNameOf(slice, endpoint); name != "" && !slices.Contains(x.ports[name], found) {
					x.ports[name] = append(x.ports[name], found)
				}
			}
		}
	}
}

func podPortOf(service *corev1.Service, port discoveryv1.EndpointPort) podPort {
	if port.Port == nil || !isTCP(port.Protocol) {
		return podPort{}
	}
	found := podPort{number: toPort(*port.Port)}
	found.service = mesh.Service{Namespace: service.Namespace, Name: service.Name}
	for at := range service.Spec.Ports {
		declared := &service.Spec.Ports[at]
		if isTCP(&declared.Protocol) && declared.Name == deref(port.Name) {
			found.service.Port = toPort(declared.Port)
			found.protocol, found.http2 = protocolOf(declared), isHTTP2(declared)
			return found
		}
	}
	return podPort{}
}

// addSplits takes one split for each workload: the one that has its name or else the oldest.
func (x *Index) addSplits(list []*v1alpha1.TrafficSplit) {
	sorted := slices.SortedFunc(slices.Values(list), func(a, b *v1alpha1.TrafficSplit) int {
		if named := compareBool(b.Name == b.Spec.WorkloadRef.Name, a.Name == a.Spec.WorkloadRef.Name); named != 0 {
			return named
		}
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, object := range sorted {
		workload := object.Namespace + "/" + object.Spec.WorkloadRef.Name
		if object.Spec.WorkloadRef.Kind != kindDeployment || x.splits[workload] != nil {
			continue
		}
		x.splits[workload] = &split{object: object, Split: toSplit(workload, object)}
	}
}

// Splits returns the TrafficSplits in force, by "namespace/name" of their workload.
func (x *Index) Splits() map[string]*v1alpha1.TrafficSplit {
	list := make(map[string]*v1alpha1.TrafficSplit, len(x.splits))
	for workload, split := range x.splits {
		list[workload] = split.object
	}
	return list
}

// splitsOf returns the splits of the workloads among endpoints, in order.
func (x *Index) splitsOf(endpoints []mesh.Endpoint) []mesh.Split {
	found := map[string]mesh.Split{}
	for at := range endpoints {
		if split := x.splits[endpoints[at].Workload]; split != nil {
			found[split.Workload] = split.Split
		}
	}
	var list []mesh.Split
	for _, workload := range slices.Sorted(maps.Keys(found)) {
		list = append(list, found[workload])
	}
	return list
}

func keyOf(object metav1.Object) string { return object.GetNamespace() + "/" + object.GetName() }

func isTCP(protocol *corev1.Protocol) bool {
	return protocol == nil || *protocol == "" || *protocol == corev1.ProtocolTCP
}

// toPort returns 0 for what is not a port; the API server lets none in.
func toPort(number int32) uint16 {
	if number < 0 || number > 65535 {
		return 0
	}
	return uint16(number)
}

func deref[T any](pointer *T) (value T) {
	if pointer != nil {
		value = *pointer
	}
	return value
}

// compareBool orders false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}
