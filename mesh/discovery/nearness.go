// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"cmp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/sluice-mesh/sluice/mesh"
)

// addZones learns the zones of nodes. Slices name both for each pod of a Service, so that nobody here needs
// to read nodes.
func (x *Index) addZones(slice *discoveryv1.EndpointSlice) {
	for at := range slice.Endpoints {
		node, zone := deref(slice.Endpoints[at].NodeName), deref(slice.Endpoints[at].Zone)
		if node == "" || zone == "" {
			continue
		}
		// Where slices disagree, as while a node's label changes, the answer must not depend on their order.
		if known := x.zones[node]; known == "" || zone < known {
			x.zones[node] = zone
		}
	}
}

// locationOf returns where a pod runs. From 1.35 on Kubernetes gives the pod its node's label for the zone,
// which tells it on a node without pods of Services, too.
func (x *Index) locationOf(object *corev1.Pod) mesh.Location {
	node := object.Spec.NodeName
	if node == "" {
		return mesh.Location{} // Not scheduled yet.
	}
	return mesh.Location{Node: node, Zone: cmp.Or(x.zones[node], object.Labels[corev1.LabelTopologyZone])}
}

// hintsOf returns what a slice says of one endpoint. The controller of slices writes it for a Service's
// trafficDistribution as well as for its topology mode.
func hintsOf(written *discoveryv1.EndpointHints) mesh.Hints {
	if written == nil {
		return mesh.Hints{}
	}
	var nodes, zones []string
	for _, node := range written.ForNodes {
		nodes = append(nodes, node.Name)
	}
	for _, zone := range written.ForZones {
		zones = append(zones, zone.Name)
	}
	return mesh.Hints{Nodes: strings.Join(nodes, ","), Zones: strings.Join(zones, ",")}
}

// keepHints drops hints that not all ready endpoints have, which is Kubernetes' own rule: who was not
// counted when hints were given would get no requests.
func keepHints(endpoints []mesh.Endpoint) {
	nodes, zones := true, true
	for at := range endpoints {
		if endpoint := &endpoints[at]; endpoint.Ready {
			nodes, zones = nodes && endpoint.Hints.Nodes != "", zones && endpoint.Hints.Zones != ""
		}
	}
	for at := range endpoints {
		endpoint := &endpoints[at]
		if !nodes || !endpoint.Ready {
			endpoint.Hints.Nodes = ""
		}
		if !zones || !endpoint.Ready {
			endpoint.Hints.Zones = ""
		}
	}
}
