// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TrafficPolicy says what the mesh demands of requests and connections to the Service of the same name
// and namespace. The proxies of its callers apply it; callers without a proxy know nothing of it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=sluice,shortName=tp
// +kubebuilder:printcolumn:name="Request",type=string,JSONPath=`.spec.timeouts.request`
// +kubebuilder:printcolumn:name="Try",type=string,JSONPath=`.spec.timeouts.try`
// +kubebuilder:printcolumn:name="Idle",type=string,JSONPath=`.spec.timeouts.idle`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type TrafficPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec TrafficPolicySpec `json:"spec"`
}

// TrafficPolicyList is a list of TrafficPolicy objects.
//
// +kubebuilder:object:root=true
type TrafficPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficPolicy `json:"items"`
}

// TrafficPolicySpec is what people write.
type TrafficPolicySpec struct {
	// timeouts of requests and connections to the Service; none when it is left out.
	// +optional
	Timeouts *Timeouts `json:"timeouts,omitempty"`
}

// Timeouts say when the caller's proxy gives up. Each is 1ms to 24h, in whole milliseconds; without one
// nothing is given up for that reason.
type Timeouts struct {
	// request is how long a request may take from its head to the end of its answer, all tries together.
	// Leave it out for Services that answer with streams. An Upgrade or a CONNECT that was agreed to has
	// met it.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('24h')",message="spec.timeouts.request: write 1ms to 24h, such as 10s"
	// +optional
	Request *metav1.Duration `json:"request,omitempty"`
	// try is how long one try may take from when its endpoint is chosen to the head of the answer,
	// connecting included.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('24h')",message="spec.timeouts.try: write 1ms to 24h, such as 2s"
	// +optional
	Try *metav1.Duration `json:"try,omitempty"`
	// idle is how long a request that was sent, what an Upgrade or a CONNECT has made of it, or a
	// connection that is carried as bytes, may go without a byte in either direction.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('24h')",message="spec.timeouts.idle: write 1ms to 24h, such as 5m"
	// +optional
	Idle *metav1.Duration `json:"idle,omitempty"`
}
