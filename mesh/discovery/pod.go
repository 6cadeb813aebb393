// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity"
)

const (
	kindDeployment = "Deployment"
	kindReplicaSet = "ReplicaSet"
	// proxyContainer is the name of the sidecar.
	proxyContainer = "sluice-proxy"
)

// pod is what the mesh wants to know of a pod.
type pod struct {
	namespace, name string
	// serviceAccount is never empty.
	serviceAccount string
	address        netip.Addr
	// workload is "namespace/name" or empty.
	workload string
	hash     string
	// identity is set when the pod has a proxy.
	identity string
	// called is what policies name the pod by, "namespace/kind/name" of its workload; empty when it has none.
	called string
	// ready is the pod's own readiness; terminating pods may still be ready.
	ready, terminating bool
	location           mesh.Location
	// peer is endpoint(0), made once because each other pod of the workload needs it.
	peer mesh.Endpoint
}

func (p *pod) key() string { return p.namespace + "/" + p.name }

func (p *pod) endpoint(port uint16) mesh.Endpoint {
	return mesh.Endpoint{
		Address:         netip.AddrPortFrom(p.address, port).String(),
		Identity:        p.identity,
		Namespace:       p.namespace,
		Pod:             p.name,
		Workload:        p.workload,
		PodTemplateHash: p.hash,
		Ready:           p.ready && !p.terminating,
	}
}

func (x *Index) addPods(trustDomain spiffeid.TrustDomain, inputs Inputs) {
	replicaSets := make(map[string]*metav1.PartialObjectMetadata, len(inputs.ReplicaSets))
	for _, replicaSet := range inputs.ReplicaSets {
		replicaSets[keyOf(replicaSet)] = replicaSet
	}
	newest := make(map[netip.Addr]*corev1.Pod, len(inputs.Pods))
	for _, object := range inputs.Pods {
		if object.Status.Phase == corev1.PodSucceeded || object.Status.Phase == corev1.PodFailed {
			continue // Its address may be another's by now.
		}
		made := makePod(trustDomain, object)
		made.workload = x.workloadOf(object, replicaSets)
		made.called = calledOf(object, made.workload)
		made.location = x.locationOf(object)
		if made.identity != "" {
			x.access.addProbes(made.key(), object)
		}
		made.peer = made.endpoint(0)
		x.pods[made.key()] = made
		if made.workload != "" {
			x.workloads[made.workload] = append(x.workloads[made.workload], made)
		}
		// The address of a pod on the host's network is the node's: it says nothing of a pod.
		if object.Spec.HostNetwork {
			continue
		}
		for _, address := range addressesOf(object) {
			if isNewer(object, newest[address]) {
				x.addresses[address], newest[address] = made, object
			}
		}
	}
	for _, pods := range x.workloads {
		slices.SortFunc(pods, func(a, b *pod) int { return cmp.Compare(a.name, b.name) })
	}
}

// isNewer decides which of two pods has an address that both claim: the one before has gone, but for
// the news of it.
func isNewer(object, than *corev1.Pod) bool {
	if than == nil {
		return true
	}
	return cmp.Or(object.CreationTimestamp.Compare(than.CreationTimestamp.Time), cmp.Compare(keyOf(object), keyOf(than))) > 0
}

func makePod(trustDomain spiffeid.TrustDomain, object *corev1.Pod) *pod {
	made := &pod{
		namespace:      object.Namespace,
		name:           object.Name,
		serviceAccount: cmp.Or(object.Spec.ServiceAccountName, "default"),
		hash:           object.Labels[appsv1.DefaultDeploymentUniqueLabelKey],
		terminating:    object.DeletionTimestamp != nil,
	}
	if addresses := addressesOf(object); len(addresses) > 0 {
		made.address = addresses[0]
	}
	for _, condition := range object.Status.Conditions {
		if condition.Type == corev1.PodReady {
			made.ready = condition.Status == corev1.ConditionTrue
		}
	}
	if hasProxy(object) {
		// A name that makes no SPIFFE ID cannot have a certificate either.
		if id, err := identity.ForServiceAccount(trustDomain, made.namespace, made.serviceAccount); err == nil {
			made.identity = id.String()
		}
	}
	return made
}

func addressesOf(object *corev1.Pod) []netip.Addr {
	var addresses []netip.Addr
	for _, text := range object.Status.PodIPs {
		if address, err := netip.ParseAddr(text.IP); err == nil {
			addresses = append(addresses, address.Unmap())
		}
	}
	return addresses
}

// hasProxy says whether a pod has the sidecar. Whether it runs at this moment does not matter: the
// pod's traffic is led to it, so that a pod whose sidecar is down cannot be reached without it
// either, and nobody may be led to speak in the clear by crashing one.
func hasProxy(object *corev1.Pod) bool {
	isProxy := func(container corev1.Container) bool { return container.Name == proxyContainer }
	return slices.ContainsFunc(object.Spec.InitContainers, isProxy) || slices.ContainsFunc(object.Spec.Containers, isProxy)
}

// workloadOf returns the Deployment that a pod belongs to. Its ReplicaSet may be controlled by the
// Deployment or, while a run has taken it out of the Deployment's selector, only refer to it.
func (x *Index) workloadOf(object *corev1.Pod, replicaSets map[string]*metav1.PartialObjectMetadata) string {
	owner := metav1.GetControllerOf(object)
	if owner == nil || owner.Kind != kindReplicaSet {
		return ""
	}
	replicaSet := replicaSets[object.Namespace+"/"+owner.Name]
	if replicaSet == nil {
		return cmp.Or(x.workloadBySelector(object), workloadByName(object, owner.Name))
	}
	for _, reference := range replicaSet.OwnerReferences {
		if reference.Kind == kindDeployment {
			return object.Namespace + "/" + reference.Name
		}
	}
	return ""
}

// workloadBySelector finds the workload of a pod whose ReplicaSet has not been seen yet, or has just
// gone, by the splits in force: a pod of a split workload must not be without the split for a moment.
func (x *Index) workloadBySelector(object *corev1.Pod) string {
	found := ""
	for workload, split := range x.splits {
		if split.object.Namespace == object.Namespace && selects(split.object, object) && (found == "" || workload < found) {
			found = workload
		}
	}
	return found
}

// workloadByName finds the workload of a pod on its way out whose ReplicaSet has gone before it, as that
// of a deleted Canary's candidate has and one beyond revisionHistoryLimit: the Deployment controller
// names its sets after the Deployment and the template's hash. Without peers such a pod could only
// refuse what still comes to it once its application has ended.
func workloadByName(object *corev1.Pod, replicaSet string) string {
	hash := object.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
	name, named := strings.CutSuffix(replicaSet, "-"+hash)
	if object.DeletionTimestamp == nil || hash == "" || name == "" || !named {
		return ""
	}
	return object.Namespace + "/" + name
}

func selects(split *v1alpha1.TrafficSplit, object *corev1.Pod) bool {
	selector, err := metav1.LabelSelectorAsSelector(&split.Spec.Selector)
	return err == nil && !selector.Empty() && selector.Matches(labels.Set(object.Labels))
}
