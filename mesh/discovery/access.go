// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"cmp"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity"
)

const (
	kindStatefulSet = "StatefulSet"
	kindDaemonSet   = "DaemonSet"
	// grpcHealthCheck is what the kubelet calls for a probe of gRPC.
	grpcHealthCheck = "/grpc.health.v1.Health/Check"
)

// access is who may call which pods.
type access struct {
	// policies by "namespace/kind/name" of the workload, in order.
	policies map[string][]mesh.AccessPolicy
	// limits likewise.
	limits map[string][]mesh.RateLimit
	// namespaces that say it, and what holds in others.
	namespaces map[string]mesh.AccessDefault
	otherwise  mesh.AccessDefault
	// probes by "namespace/name" of the pod.
	probes map[string][]mesh.Probe
}

func newAccess(trustDomain spiffeid.TrustDomain, inputs Inputs) access {
	made := access{
		policies: map[string][]mesh.AccessPolicy{}, limits: limitsOf(inputs.RateLimits), namespaces: map[string]mesh.AccessDefault{},
		otherwise: cmp.Or(inputs.DefaultAccess, mesh.AccessAllow), probes: map[string][]mesh.Probe{},
	}
	for _, object := range inputs.AccessPolicies {
		called := calledName(object.Namespace, cmp.Or(object.Spec.TargetRef.Kind, kindDeployment), object.Spec.TargetRef.Name)
		made.policies[called] = append(made.policies[called], toAccessPolicy(trustDomain, object))
	}
	for _, policies := range made.policies {
		slices.SortFunc(policies, func(a, b mesh.AccessPolicy) int { return cmp.Compare(a.Name, b.Name) })
	}
	for _, object := range inputs.Namespaces {
		if written, there := object.Annotations[v1alpha1.AnnotationDefaultAccess]; there {
			made.namespaces[object.Name] = toAccessDefault(written)
		}
	}
	return made
}

// toAccessDefault denies what is none of the values: who has written it wanted to keep somebody out.
func toAccessDefault(written string) mesh.AccessDefault {
	switch written {
	case v1alpha1.DefaultAccessAllow:
		return mesh.AccessAllow
	case v1alpha1.DefaultAccessMeshed:
		return mesh.AccessMeshed
	}
	return mesh.AccessDeny
}

// of is who may call a pod, and how often; nil when everybody may at will and nothing is audited.
func (a *access) of(found *pod) *mesh.Access {
	policies, limits := a.policies[found.called], a.limits[found.called]
	standard, written := a.namespaces[found.namespace]
	if !written {
		standard = a.otherwise
	}
	if len(policies) == 0 && len(limits) == 0 && standard == mesh.AccessAllow {
		return nil
	}
	return &mesh.Access{Default: standard, Policies: policies, Limits: limits, Probes: a.probes[found.key()]}
}

func toAccessPolicy(trustDomain spiffeid.TrustDomain, object *v1alpha1.AccessPolicy) mesh.AccessPolicy {
	policy := mesh.AccessPolicy{Name: object.Name, Mode: mesh.AccessEnforce}
	if object.Spec.Mode == v1alpha1.AccessAudit {
		policy.Mode = mesh.AccessAudit
	}
	for i := range object.Spec.Rules {
		policy.Rules = append(policy.Rules, toAccessRule(trustDomain, object.Namespace, &object.Spec.Rules[i]))
	}
	return policy
}

// toAccessRule leaves out callers that cannot exist. What it cannot read of ports it keeps as one that is
// none: an empty list would mean all of them.
func toAccessRule(trustDomain spiffeid.TrustDomain, namespace string, rule *v1alpha1.AccessRule) mesh.AccessRule {
	made := mesh.AccessRule{Identities: slices.Clone(rule.From.Identities)}
	for _, account := range rule.From.ServiceAccounts {
		// A name that makes no SPIFFE ID cannot have a certificate either.
		if id, err := identity.ForServiceAccount(trustDomain, cmp.Or(account.Namespace, namespace), account.Name); err == nil {
			made.Identities = append(made.Identities, id.String())
		}
	}
	for _, from := range rule.From.Namespaces {
		made.Namespaces = append(made.Namespaces, trustDomain.IDString()+"/ns/"+from+"/sa/")
	}
	for _, from := range rule.From.Networks {
		if network, err := netip.ParsePrefix(from); err == nil {
			made.Networks = append(made.Networks, network.Masked())
		}
	}
	for _, port := range rule.Ports {
		made.Ports = append(made.Ports, toPort(port))
	}
	for _, route := range rule.Routes {
		made.Routes = append(made.Routes, toRoute(route.Methods, route.Path))
	}
	return made
}

func toRoute(methods []string, path *v1alpha1.PathMatch) mesh.AccessRoute {
	route := mesh.AccessRoute{Methods: slices.Clone(methods)}
	if path != nil {
		route.Path = toPathMatch(path)
	}
	return route
}

func calledName(namespace, kind, name string) string { return namespace + "/" + kind + "/" + name }

// calledOf is what policies name a pod by. It must be known with the pod: where its ReplicaSet has not been
// seen yet the name tells, which Deployments and runs make of the Deployment's and the template's hash.
func calledOf(object *corev1.Pod, workload string) string {
	owner := metav1.GetControllerOf(object)
	if owner == nil {
		return ""
	}
	switch owner.Kind {
	case kindStatefulSet, kindDaemonSet:
		return calledName(object.Namespace, owner.Kind, owner.Name)
	case kindReplicaSet:
		if _, name, found := strings.Cut(workload, "/"); found {
			return calledName(object.Namespace, kindDeployment, name)
		}
		hash := object.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
		if name, named := strings.CutSuffix(owner.Name, "-"+hash); named && hash != "" {
			return calledName(object.Namespace, kindDeployment, name)
		}
	}
	return ""
}

// addProbes notes the requests by which kubelets look at a pod's containers.
func (a *access) addProbes(key string, object *corev1.Pod) {
	var probes []mesh.Probe
	for _, container := range slices.Concat(object.Spec.InitContainers, object.Spec.Containers) {
		if container.Name == proxyContainer {
			continue // Its probes do not come through it.
		}
		for _, probe := range []*corev1.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
			if made := toProbe(container.Ports, probe); made.Port != 0 && !slices.Contains(probes, made) {
				probes = append(probes, made)
			}
		}
	}
	if probes != nil {
		a.probes[key] = probes
	}
}

// toProbe is empty for probes that send no request.
func toProbe(ports []corev1.ContainerPort, probe *corev1.Probe) mesh.Probe {
	switch {
	case probe == nil:
	case probe.HTTPGet != nil:
		path, _, _ := strings.Cut(probe.HTTPGet.Path, "?")
		return mesh.Probe{Port: portOf(ports, probe.HTTPGet.Port), Method: http.MethodGet, Path: "/" + strings.TrimPrefix(path, "/")}
	case probe.GRPC != nil:
		return mesh.Probe{Port: toPort(probe.GRPC.Port), Method: http.MethodPost, Path: grpcHealthCheck}
	}
	return mesh.Probe{}
}

func portOf(ports []corev1.ContainerPort, port intstr.IntOrString) uint16 {
	if port.Type == intstr.Int {
		return toPort(port.IntVal)
	}
	for _, named := range ports {
		if named.Name == port.StrVal {
			return toPort(named.ContainerPort)
		}
	}
	return 0
}

// keepProbed keeps of containers what addProbes and hasProxy read.
func keepProbed(containers []corev1.Container) []corev1.Container {
	var kept []corev1.Container
	for i := range containers {
		full := &containers[i]
		if full.Name == proxyContainer {
			kept = append(kept, corev1.Container{Name: proxyContainer})
			continue
		}
		probed := corev1.Container{
			StartupProbe: keepProbe(full.StartupProbe), LivenessProbe: keepProbe(full.LivenessProbe),
			ReadinessProbe: keepProbe(full.ReadinessProbe),
		}
		if probed.StartupProbe == nil && probed.LivenessProbe == nil && probed.ReadinessProbe == nil {
			continue
		}
		for _, port := range full.Ports {
			if port.Name != "" {
				probed.Ports = append(probed.Ports, corev1.ContainerPort{Name: port.Name, ContainerPort: port.ContainerPort})
			}
		}
		kept = append(kept, probed)
	}
	return kept
}

func keepProbe(probe *corev1.Probe) *corev1.Probe {
	switch {
	case probe == nil:
	case probe.HTTPGet != nil:
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: probe.HTTPGet.Path, Port: probe.HTTPGet.Port}}}
	case probe.GRPC != nil:
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: probe.GRPC.Port}}}
	}
	return nil
}
