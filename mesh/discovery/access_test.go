// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/mesh"
)

func accessInputs() Inputs {
	controller := true
	return Inputs{
		Pods: []*corev1.Pod{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "ledger-0", OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "ledger", Controller: &controller},
			}},
			Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: proxyContainer}}},
		}},
		AccessPolicies: []*v1alpha1.AccessPolicy{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "ledger"},
			Spec:       v1alpha1.AccessPolicySpec{TargetRef: v1alpha1.CalledReference{Kind: "StatefulSet", Name: "ledger"}},
		}},
	}
}

// A stream is told when who may call its pod changes, and only then. It keeps what it was told when its pod
// is deleted: the proxy still serves for a moment.
func TestAccessReachesStreams(t *testing.T) {
	registry := newRegistry(time.Now, false)
	inputs := accessInputs()
	policies := inputs.AccessPolicies
	inputs.AccessPolicies = nil
	registry.publish(Build(testDomain, inputs))
	stream := registry.join("shop/ledger-0")
	require.Nil(t, registry.next(stream).GetInbound().GetAccess())

	inputs.AccessPolicies = policies
	registry.publish(Build(testDomain, inputs))
	require.Len(t, registry.next(stream).GetInbound().GetAccess().GetPolicies(), 1)
	registry.publish(Build(testDomain, inputs))
	require.Nil(t, registry.next(stream), "nothing has changed")

	namespace := &metav1.PartialObjectMetadata{}
	namespace.Name, namespace.Annotations = "shop", map[string]string{v1alpha1.AnnotationDefaultAccess: "meshed"}
	inputs.Namespaces = []*metav1.PartialObjectMetadata{namespace}
	registry.publish(Build(testDomain, inputs))
	require.Equal(t, mesh.AccessMeshed, registry.next(stream).GetInbound().ToMesh().Access.Default)

	inputs.Pods = nil
	registry.publish(Build(testDomain, inputs))
	require.Nil(t, registry.next(stream), "what keeps callers out outlives the pod's object")
}

// What the cache keeps of a pod is enough to know its probes, and no more.
func TestKeepPodKeepsProbes(t *testing.T) {
	full := &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "setup", Image: "setup"}, {Name: proxyContainer, Image: "proxy"}},
		Containers: []corev1.Container{
			{
				Name: "app", Image: "app", Env: []corev1.EnvVar{{Name: "A", Value: "b"}},
				Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}, {ContainerPort: 1}},
				LivenessProbe: &corev1.Probe{PeriodSeconds: 3, ProbeHandler: corev1.ProbeHandler{
					HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("web")},
				}},
			},
			{Name: "silent", ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}},
		},
	}}
	kept, err := keepPod(full)
	require.NoError(t, err)
	require.True(t, hasProxy(kept.(*corev1.Pod)))
	var before, after access
	before.probes, after.probes = map[string][]mesh.Probe{}, map[string][]mesh.Probe{}
	before.addProbes("", full)
	after.addProbes("", kept.(*corev1.Pod))
	require.Equal(t, []mesh.Probe{{Port: 8080, Method: "GET", Path: "/healthz"}}, after.probes[""])
	require.Equal(t, before, after)
	require.Len(t, kept.(*corev1.Pod).Spec.Containers, 1)
	require.Empty(t, kept.(*corev1.Pod).Spec.Containers[0].Image)
}
