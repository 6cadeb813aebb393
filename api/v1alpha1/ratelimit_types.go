// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RateLimit says how often each client may ask the pods of one workload. Each pod's proxy counts for itself:
// a client that asks three pods in turn may ask three times as often. Probes of the kubelet that the pods
// name themselves do not count. Of several RateLimits of one workload each holds: a request must be within
// all that mean it, and one that is refused counts for none of them.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=sluice,shortName=rl
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=`.spec.targetRef.kind`
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.targetRef.name`
// +kubebuilder:printcolumn:name="Requests",type=integer,JSONPath=`.spec.client.requests`
// +kubebuilder:printcolumn:name="Per",type=string,JSONPath=`.spec.client.per`
// +kubebuilder:printcolumn:name="Burst",type=integer,JSONPath=`.spec.client.burst`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
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

	// mode: enforce refuses what is too much. audit refuses nothing: it counts what would be refused.
	// +kubebuilder:validation:Enum=enforce;audit
	// +kubebuilder:default=enforce
	// +optional
	Mode AccessMode `json:"mode,omitempty"`

	// ports of the pods that are meant, by number; all when there are none.
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=65535
	// +listType=set
	// +optional
	Ports []int32 `json:"ports,omitempty"`

	// routes are the requests that are meant; all, and all other connections, when there are none. All routes
	// of one RateLimit share its rate: write another one for a rate of its own.
	// +kubebuilder:validation:MaxItems=32
	// +optional
	Routes []RatedRoute `json:"routes,omitempty"`

	// client is what each client may do at each pod. Clients in the mesh are told apart by their identity,
	// others by their address.
	// +required
	Client Rate `json:"client"`
}

// RatedRoute means the requests for which all its parts hold.
//
// +kubebuilder:validation:XValidation:rule="(has(self.methods) && size(self.methods) > 0) || has(self.path)",message="routes: write methods, path or both; leave routes out to mean all requests"
type RatedRoute struct {
	// methods of requests, in capitals as they are sent; any when there are none.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.all(method, method.matches('^[A-Z]+$'))",message="methods: write HTTP methods in capitals, such as GET"
	// +listType=set
	// +optional
	Methods []string `json:"methods,omitempty"`
	// path of requests, without the query; any when it is left out. It means other ways to write the same, too,
	// and every path that servers could read as another, such as /a/../b. gRPC's is /package.Service/Method.
	// +optional
	Path *PathMatch `json:"path,omitempty"`
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
