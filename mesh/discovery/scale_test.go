// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkPublish measures one endpoint's change in a mesh of 300 services and 3,500 proxies, each
// with ten subscriptions: what the control plane does for it, but for writing to sockets.
func BenchmarkPublish(b *testing.B) {
	const services, podsEach, subscriptions = 300, 12, 10
	inputs := largeInputs(services, podsEach)
	registry := newRegistry(time.Now, true)
	registry.publish(Build(testDomain, inputs))
	streams := make([]*stream, 0, len(inputs.Pods))
	for at, object := range inputs.Pods {
		joined := registry.join(keyOf(object))
		var addresses []string
		for next := range subscriptions {
			addresses = append(addresses, inputs.Services[(at+next*7)%services].Spec.ClusterIP+":80")
		}
		registry.subscribe(joined, addresses)
		registry.next(joined)
		<-joined.wake
		streams = append(streams, joined)
	}
	b.ReportAllocs()
	responses := 0
	for b.Loop() {
		endpoints := inputs.EndpointSlices[0].Endpoints
		*endpoints[0].Conditions.Ready = !*endpoints[0].Conditions.Ready
		registry.publish(Build(testDomain, inputs))
		for _, stream := range streams {
			select {
			case <-stream.wake:
				if registry.next(stream) != nil {
					responses++
				}
			default:
			}
		}
	}
	b.ReportMetric(float64(responses)/float64(b.N), "responses/op")
}

func largeInputs(services, podsEach int) Inputs {
	var inputs Inputs
	controller := true
	for at := range services {
		name := fmt.Sprintf("service-%d", at)
		meta := metav1.ObjectMeta{Namespace: "scale", Name: name}
		address := fmt.Sprintf("10.96.%d.%d", at/250, at%250+1)
		inputs.Services = append(inputs.Services, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			ClusterIP: address, ClusterIPs: []string{address}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
		}})
		inputs.ReplicaSets = append(inputs.ReplicaSets, &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Namespace: "scale", Name: name + "-aaa", OwnerReferences: []metav1.OwnerReference{{Kind: kindDeployment, Name: name}},
		}})
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "scale", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &inputs.Services[at].Spec.Ports[0].Name, Port: new(int32)}},
		}
		*slice.Ports[0].Port = 8080
		for number := range podsEach {
			ip := fmt.Sprintf("10.%d.%d.%d", 128+number, at/250, at%250+1)
			ready := true
			made := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: "scale", Name: fmt.Sprintf("%s-aaa-%d", name, number),
					Labels:          map[string]string{appsv1.DefaultDeploymentUniqueLabelKey: "aaa"},
					OwnerReferences: []metav1.OwnerReference{{Kind: kindReplicaSet, Name: name + "-aaa", Controller: &controller}},
				},
				Spec: corev1.PodSpec{ServiceAccountName: name, InitContainers: []corev1.Container{{Name: proxyContainer}}},
				Status: corev1.PodStatus{
					Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: ip}},
					Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
				},
			}
			inputs.Pods = append(inputs.Pods, made)
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: made.Name},
			})
		}
		inputs.EndpointSlices = append(inputs.EndpointSlices, slice)
	}
	return inputs
}
