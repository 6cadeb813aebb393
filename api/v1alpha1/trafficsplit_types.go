// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TrafficSplit says how requests to one workload are shared between its revisions, wherever a
// Service, headless name or pod IP resolves to its pods. The rollout controller writes its spec, the
// mesh control plane its status. It exists only during a run and is named after the workload.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=sluice,shortName=ts
// +kubebuilder:printcolumn:name="Stable",type=integer,JSONPath=`.spec.revisions[?(@.name=="stable")].weight`
// +kubebuilder:printcolumn:name="Canary",type=integer,JSONPath=`.spec.revisions[?(@.name=="canary")].weight`
// +kubebuilder:printcolumn:name="Proxies",type=integer,JSONPath=`.status.proxies.carrying`
// +kubebuilder:printcolumn:name="Acknowledged",type=integer,JSONPath=`.status.proxies.acknowledged`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type TrafficSplit struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec TrafficSplitSpec `json:"spec"`
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status TrafficSplitStatus `json:"status,omitzero"`
}

// TrafficSplitList is a list of TrafficSplit objects.
//
// +kubebuilder:object:root=true
type TrafficSplitList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficSplit `json:"items"`
}

// TrafficSplitSpec is the share of requests that each revision gets.
//
// +kubebuilder:validation:XValidation:rule="self.revisions.map(r, r.weight).sum() == (has(self.totalWeight) ? self.totalWeight : 100)",message="spec.revisions: weights must add up to spec.totalWeight, which is 100 when it is left out"
type TrafficSplitSpec struct {
	// workloadRef is the workload whose pods are split.
	// +required
	WorkloadRef TargetReference `json:"workloadRef"`
	// selector is the workload's own pod selector.
	// +required
	Selector metav1.LabelSelector `json:"selector"`
	// totalWeight is what the revisions' weights are shares of, 100 to 100000.
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=100
	// +kubebuilder:validation:Maximum=100000
	// +optional
	TotalWeight int32 `json:"totalWeight,omitempty"`
	// revisions of the workload. Pods of the workload whose hash is not listed get no requests
	// unless no listed revision has a ready pod.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=podTemplateHash
	// +required
	Revisions []RevisionWeight `json:"revisions"`
	// matches: requests that match any of these go to the canary whatever the weights.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Matches []RequestMatch `json:"matches,omitempty"`
	// mirror has requests that stable serves copied to the canary.
	// +optional
	Mirror *Mirror `json:"mirror,omitempty"`
	// stickiness keeps a user at one revision.
	// +optional
	Stickiness *Stickiness `json:"stickiness,omitempty"`
}

// RevisionWeight is one revision's share.
type RevisionWeight struct {
	// name of the revision's part in the run: stable or canary.
	// +kubebuilder:validation:Enum=stable;canary
	// +required
	Name string `json:"name"`
	// podTemplateHash is the value of the label pod-template-hash on the revision's pods.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	PodTemplateHash string `json:"podTemplateHash"`
	// weight is the share of requests, in parts of totalWeight.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000
	// +required
	Weight int32 `json:"weight"`
}

// TrafficSplitStatus says who runs the split and what is still open on each revision.
type TrafficSplitStatus struct {
	// observedGeneration is the generation that this status speaks of; -1 before the first look.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// +optional
	Proxies ProxyCounts `json:"proxies,omitzero"`
	// revisions says what is open on each revision, as the connected proxies report it.
	// +listType=map
	// +listMapKey=podTemplateHash
	// +optional
	Revisions []RevisionOpen `json:"revisions,omitempty"`
	// unsplit is how many requests reached the workload since the run's start without a split having
	// been applied by a proxy.
	// +optional
	Unsplit int64 `json:"unsplit,omitempty"`
}

// ProxyCounts counts the proxies that carry the workload's traffic.
type ProxyCounts struct {
	// carrying is how many connected proxies subscribe to the workload or run beside one of its pods.
	Carrying int32 `json:"carrying"`
	// acknowledged is how many of them run the observed generation.
	Acknowledged int32 `json:"acknowledged"`
	// laggards names at most 10 of the others, as namespace/pod.
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	// +optional
	Laggards []string `json:"laggards,omitempty"`
}

// RevisionOpen is what is open on a revision, seen from its callers and from its own pods. One
// request between two proxies may be counted by both; none is counted by neither.
type RevisionOpen struct {
	PodTemplateHash string `json:"podTemplateHash"`
	Requests        int64  `json:"requests"`
	Connections     int64  `json:"connections"`
}
