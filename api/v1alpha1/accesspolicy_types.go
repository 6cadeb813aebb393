// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AccessPolicy says who may call the pods of one workload. Their proxies apply it to everything that comes
// to them; probes of the kubelet that the pods name themselves are always let in. Several policies of one
// workload add up: what a rule of any of them lets in comes in.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=sluice,path=accesspolicies,shortName=acp
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=`.spec.targetRef.kind`
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.targetRef.name`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AccessPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec AccessPolicySpec `json:"spec"`
}

// AccessPolicyList is a list of AccessPolicy objects.
//
// +kubebuilder:object:root=true
type AccessPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AccessPolicy `json:"items"`
}

// AccessPolicySpec is what people write.
type AccessPolicySpec struct {
	// targetRef names the workload, in the same namespace, whose pods are called.
	// +required
	TargetRef CalledReference `json:"targetRef"`

	// mode: enforce refuses what no rule lets in. audit refuses nothing and lets nothing in: it logs and
	// counts what its rules would refuse.
	// +kubebuilder:validation:Enum=enforce;audit
	// +kubebuilder:default=enforce
	// +optional
	Mode AccessMode `json:"mode,omitempty"`

	// rules let callers in; each on its own. An empty list lets in nobody but probes.
	// +kubebuilder:validation:MaxItems=64
	// +required
	Rules []AccessRule `json:"rules"`
}

// AccessMode is what is done about what no rule lets in.
type AccessMode string

// Modes of an AccessPolicy.
const (
	AccessEnforce AccessMode = "enforce"
	AccessAudit   AccessMode = "audit"
)

// CalledReference names a workload whose pods are called, in the namespace of the object.
type CalledReference struct {
	// apiVersion of the workload.
	// +kubebuilder:default="apps/v1"
	// +kubebuilder:validation:Enum=apps/v1
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`
	// kind of the workload.
	// +kubebuilder:default=Deployment
	// +kubebuilder:validation:Enum=Deployment;StatefulSet;DaemonSet
	// +optional
	Kind string `json:"kind,omitempty"`
	// name of the workload.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`
}

// AccessRule lets some callers in, to some ports and with some requests.
type AccessRule struct {
	// from says who is let in.
	// +required
	From Callers `json:"from"`
	// ports of the pods, by number; all when there are none.
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=65535
	// +listType=set
	// +optional
	Ports []int32 `json:"ports,omitempty"`
	// routes are the requests that are let in; all, and all other connections, when there are none. With
	// any of them connections that are not HTTP, or whose TLS is not the mesh's, do not come in by this rule.
	// +kubebuilder:validation:MaxItems=32
	// +optional
	Routes []AccessRoute `json:"routes,omitempty"`
}

// Callers are who any of its parts names.
//
// +kubebuilder:validation:XValidation:rule="(has(self.serviceAccounts) && size(self.serviceAccounts) > 0) || (has(self.identities) && size(self.identities) > 0) || (has(self.namespaces) && size(self.namespaces) > 0) || (has(self.networks) && size(self.networks) > 0)",message="from: write at least one of serviceAccounts, identities, namespaces and networks; everybody is networks: [0.0.0.0/0, \"::/0\"]"
type Callers struct {
	// serviceAccounts of callers in the mesh.
	// +kubebuilder:validation:MaxItems=32
	// +optional
	ServiceAccounts []ServiceAccountReference `json:"serviceAccounts,omitempty"`
	// identities of callers in the mesh: whole SPIFFE IDs, for those that serviceAccounts cannot name.
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.all(id, id.matches('^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$'))",message="identities: write whole SPIFFE IDs, such as spiffe://cluster.local/ns/web/sa/frontend"
	// +listType=set
	// +optional
	Identities []string `json:"identities,omitempty"`
	// namespaces: all callers in the mesh whose service account is of one of these.
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.all(name, name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))",message="namespaces: write names of namespaces, such as web; there are no wildcards"
	// +listType=set
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`
	// networks of callers, in the mesh or not, such as 10.0.0.0/8. A caller is where its connection comes
	// from: behind a Service of type NodePort or LoadBalancer that may be a node.
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.all(network, isCIDR(network))",message="networks: write networks with the length of their prefix, such as 10.0.0.0/8, or 10.1.2.3/32 for one address"
	// +listType=set
	// +optional
	Networks []string `json:"networks,omitempty"`
}

// ServiceAccountReference names a service account.
type ServiceAccountReference struct {
	// namespace of the service account, that of the object when it is left out.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// name of the service account.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +required
	Name string `json:"name"`
}

// AccessRoute means the requests for which all its parts hold.
//
// +kubebuilder:validation:XValidation:rule="(has(self.methods) && size(self.methods) > 0) || has(self.path)",message="routes: write methods, path or both; leave routes out to let all requests in"
type AccessRoute struct {
	// methods of requests, in capitals as they are sent; any when there are none.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.all(method, method.matches('^[A-Z]+$'))",message="methods: write HTTP methods in capitals, such as GET"
	// +listType=set
	// +optional
	Methods []string `json:"methods,omitempty"`
	// path of requests, without the query, as it is sent; any when it is left out. One that servers could
	// read as another, such as /a/../b, comes in by no rule with a path. gRPC's is /package.Service/Method.
	// +optional
	Path *PathMatch `json:"path,omitempty"`
}
