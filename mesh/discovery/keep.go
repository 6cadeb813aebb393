// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// CacheByObject makes a cache keep only what discovery reads of each object. A pod is ten kilobytes
// and its part here a fiftieth of that; there are thousands.
func CacheByObject() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&corev1.Service{}:            {Transform: keepObject},
		&discoveryv1.EndpointSlice{}: {Transform: keepObject},
		&corev1.Pod{}:                {Transform: keepPod},
		replicaSetMetadata():         {Transform: keepObject},
		&v1alpha1.TrafficSplit{}:     {Transform: keepObject},
		&v1alpha1.TrafficPolicy{}:    {Transform: keepObject},
		&v1alpha1.AccessPolicy{}:     {Transform: keepObject},
		&v1alpha1.RateLimit{}:        {Transform: keepObject},
		namespaceMetadata():          {Transform: keepNamespace},
	}
}

// keepObject drops metadata that nobody here reads.
func keepObject(object any) (any, error) {
	if metadata, ok := object.(metav1.Object); ok {
		metadata.SetManagedFields(nil)
		metadata.SetAnnotations(nil)
	}
	return object, nil
}

// keepNamespace keeps the one annotation that discovery reads, and the labels, which the injector does.
func keepNamespace(object any) (any, error) {
	metadata, ok := object.(metav1.Object)
	if !ok {
		return object, nil
	}
	written, there := metadata.GetAnnotations()[v1alpha1.AnnotationDefaultAccess]
	metadata.SetManagedFields(nil)
	metadata.SetAnnotations(nil)
	if there {
		metadata.SetAnnotations(map[string]string{v1alpha1.AnnotationDefaultAccess: written})
	}
	return object, nil
}

func keepPod(object any) (any, error) {
	full, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	kept := &corev1.Pod{TypeMeta: full.TypeMeta, ObjectMeta: full.ObjectMeta}
	kept.ManagedFields, kept.Annotations = nil, nil
	kept.Spec.ServiceAccountName = full.Spec.ServiceAccountName
	kept.Spec.HostNetwork = full.Spec.HostNetwork
	kept.Spec.NodeName = full.Spec.NodeName
	if hasProxy(full) {
		kept.Spec.InitContainers = keepProbed(full.Spec.InitContainers)
		kept.Spec.Containers = keepProbed(full.Spec.Containers)
	}
	kept.Status.Phase = full.Status.Phase
	kept.Status.PodIPs = full.Status.PodIPs
	for _, condition := range full.Status.Conditions {
		if condition.Type == corev1.PodReady {
			kept.Status.Conditions = []corev1.PodCondition{{Type: condition.Type, Status: condition.Status}}
		}
	}
	return kept, nil
}
