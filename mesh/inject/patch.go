// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Config is what injected proxies get to know.
type Config struct {
	// ProxyImage has both programs, sluice-proxy and sluice-redirect.
	ProxyImage           string
	ProxyImagePullPolicy corev1.PullPolicy
	// ProxyResources of the sidecar. Requests should be set: an HPA on CPU needs them of every container.
	ProxyResources corev1.ResourceRequirements
	// TrustDomain of the identities.
	TrustDomain string
	// TrustAnchors are PEM certificates.
	TrustAnchors string
	// ControlPlane is "host:port" of identity and discovery.
	ControlPlane string
	// ControlPlaneIdentity is the SPIFFE ID that the control plane must present.
	ControlPlaneIdentity string
	// InjectByDefault meshes pods whose namespace and labels say nothing.
	InjectByDefault bool
	// SystemNamespace is Sluice's own, which is never meshed.
	SystemNamespace string
}

// Decision is what to do with a pod. At most one field is set; none is when Mutation is nil and the
// pod is left as it is without anything to say.
type Decision struct {
	// Mutation is set when the pod is to be meshed.
	Mutation *Mutation
	// Skipped says why the pod is left as it is.
	Skipped string
	// Refused says why the pod should be meshed and cannot be, and what to write instead.
	Refused string
}

// Mutation is what is added to a pod.
type Mutation struct {
	// InitContainers go before the pod's own.
	InitContainers []corev1.Container
	// Volumes go after the pod's own.
	Volumes []corev1.Volume
	// Annotations are set.
	Annotations map[string]string
}

// Decide says what to do with a pod that is being created. The pod's own namespace field may be
// empty at that moment, hence the namespace's name beside its labels.
func Decide(pod *corev1.Pod, namespace string, namespaceLabels map[string]string, config Config) Decision {
	if namespace == metav1.NamespaceSystem || namespace == config.SystemNamespace {
		return Decision{Skipped: "pods in the namespace " + namespace + " are never meshed"}
	}
	if reason := notWanted(pod.Labels, namespaceLabels, config.InjectByDefault); reason != "" {
		return Decision{Skipped: reason}
	}
	if injected(pod) {
		return Decision{Skipped: "the pod has the proxy already"}
	}
	if reason := cannot(pod); reason != "" {
		return Decision{Refused: reason}
	}
	skip, refusal := skippedPorts(pod.Annotations)
	if refusal != "" {
		return Decision{Refused: refusal}
	}
	asked, refusal := askedOfProxy(pod.Annotations)
	if refusal != "" {
		return Decision{Refused: refusal}
	}
	mutation := &Mutation{
		InitContainers: []corev1.Container{redirectContainer(config, skip), proxyContainer(config, asked)},
		Volumes:        []corev1.Volume{tokenVolume(), stateVolume()},
	}
	if workload := workloadOf(pod); workload != "" {
		mutation.Annotations = map[string]string{v1alpha1.AnnotationWorkload: workload}
	}
	return Decision{Mutation: mutation}
}

// notWanted says why a pod is not to be meshed, or nothing. The pod's label wins over the namespace's.
func notWanted(pod, namespace map[string]string, byDefault bool) string {
	switch pod[v1alpha1.LabelInject] {
	case v1alpha1.InjectEnabled:
		return ""
	case v1alpha1.InjectDisabled:
		return "the pod's label " + v1alpha1.LabelInject + " is " + v1alpha1.InjectDisabled
	}
	switch namespace[v1alpha1.LabelInject] {
	case v1alpha1.InjectEnabled:
		return ""
	case v1alpha1.InjectDisabled:
		return "the namespace's label " + v1alpha1.LabelInject + " is " + v1alpha1.InjectDisabled
	}
	if byDefault {
		return ""
	}
	return "neither the pod nor its namespace has the label " + v1alpha1.LabelInject + ": " + v1alpha1.InjectEnabled
}

func injected(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(container corev1.Container) bool {
		return container.Name == ProxyContainer &&
			container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways
	})
}

// workloadOf is the name of what the pod belongs to, or nothing for a pod on its own. A Deployment's
// ReplicaSets are named after it and the hash of the template; so are those that a canary run makes.
func workloadOf(pod *corev1.Pod) string {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return ""
	}
	hash := pod.Labels["pod-template-hash"]
	if owner.Kind == "ReplicaSet" && hash != "" {
		return strings.TrimSuffix(owner.Name, "-"+hash)
	}
	return owner.Name
}

// Apply returns a copy of the pod with the mutation in it.
func (m *Mutation) Apply(pod *corev1.Pod) *corev1.Pod {
	mutated := pod.DeepCopy()
	mutated.Spec.InitContainers = slices.Concat(m.InitContainers, mutated.Spec.InitContainers)
	mutated.Spec.Volumes = slices.Concat(mutated.Spec.Volumes, m.Volumes)
	if len(m.Annotations) > 0 && mutated.Annotations == nil {
		mutated.Annotations = map[string]string{}
	}
	maps.Copy(mutated.Annotations, m.Annotations)
	return mutated
}

// Operation is one step of a JSON patch.
type Operation struct {
	Operation string `json:"op"`
	Path      string `json:"path"`
	Value     any    `json:"value"`
}

// Operations are the mutation as a JSON patch of the pod. It only adds; it never repeats what the
// user wrote, so that fields which this program is too old to know pass through untouched.
func (m *Mutation) Operations(pod *corev1.Pod) []Operation {
	var operations []Operation
	add := func(path string, value any) {
		operations = append(operations, Operation{Operation: "add", Path: path, Value: value})
	}
	if pod.Spec.InitContainers == nil {
		add("/spec/initContainers", m.InitContainers)
	} else {
		for i, container := range m.InitContainers {
			add("/spec/initContainers/"+strconv.Itoa(i), container)
		}
	}
	if pod.Spec.Volumes == nil {
		add("/spec/volumes", m.Volumes)
	} else {
		for _, volume := range m.Volumes {
			add("/spec/volumes/-", volume)
		}
	}
	switch {
	case len(m.Annotations) == 0:
	case pod.Annotations == nil:
		add("/metadata/annotations", m.Annotations)
	default:
		for _, key := range slices.Sorted(maps.Keys(m.Annotations)) {
			add("/metadata/annotations/"+pointer(key), m.Annotations[key])
		}
	}
	return operations
}

// pointer escapes a key for use in a JSON pointer (RFC 6901).
func pointer(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
