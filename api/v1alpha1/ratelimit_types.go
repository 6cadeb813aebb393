// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RateLimit says how often each client may ask the pods of one workload. Each pod's proxy counts for itself:
// a client that asks three pods in turn may ask three times as often. Probes of the kubelet that the pods
// name themselves do not count. Of several RateLimits of one workload each holds.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=sluice,shortName=rl
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=`.spec.targetRef.kind`
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.targetRef.name`
// +kubebuilder:printcolumn:name="Requests",type=integer,JSONPath=`.spec.client.requests`
// +kubebuilder:printcolumn:name="Per",type=string,JSONPath=`.spec.client.per`
// +kubebuilder:printcolumn:name="Burst",type=integer,JSONPath=`.spec.client.burst`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type RateLimit struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec RateLimitSpec `json:"spec"`
}

// RateLimitList is a list of RateLimit objects.
//
// +kubebuilder:object:root=true
type RateLimitList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RateLimit `json:"items"`
}

// RateLimitSpec is what people write.
type RateLimitSpec struct {
	// targetRef names the workload, in the same namespace, whose pods are asked.
	// +required
	TargetRef CalledReference `json:"targetRef"`

	// client is what each client may do at each pod. Clients in the mesh are told apart by their identity,
	// others by their address.
	// +required
	Client Rate `json:"client"`
}

// Rate is so many requests in a time. They may come at any moment, but for what burst says.
//
// +kubebuilder:validation:XValidation:rule="duration(self.per) >= duration('1s') && duration(self.per) <= duration('1h')",message="client.per: write 1s to 1h, such as 1s or 1m"
type Rate struct {
	// requests that may be sent in the time of per, 1 to 1000000.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +required
	Requests int32 `json:"requests"`
	// per is the time, 1s to 1h.
	// +kubebuilder:default="1s"
	// +optional
	Per metav1.Duration `json:"per,omitempty"`
	// burst is how many requests may come at once after a time without any, 1 to 1000000; requests when it is
	// left out.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Burst *int32 `json:"burst,omitempty"`
}
