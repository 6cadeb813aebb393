// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// CanaryRun is the record of one attempt to move a workload from one revision to another. Only the
// controller writes it. It outlives the Canary.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=sluice,shortName=cnr
// +kubebuilder:printcolumn:name="Canary",type=string,JSONPath=`.spec.canary`
// +kubebuilder:printcolumn:name="Outcome",type=string,JSONPath=`.record.outcome`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type CanaryRun struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec CanaryRunSpec `json:"spec"`
	// +optional
	Record CanaryRunRecord `json:"record,omitzero"`
}

// CanaryRunList is a list of CanaryRun objects.
//
// +kubebuilder:object:root=true
type CanaryRunList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []CanaryRun `json:"items"`
}

// CanaryRunSpec is fixed when the run begins.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec of a CanaryRun never changes"
type CanaryRunSpec struct {
	// canary is the name of the Canary.
	Canary string `json:"canary"`
	// targetRef is the workload.
	TargetRef TargetReference `json:"targetRef"`
	// stable is the revision that the run started from.
	Stable RunRevision `json:"stable"`
	// candidate is the revision that the run tries.
	Candidate RunRevision `json:"candidate"`
	// kind of run: "canary" walks the steps, "return" goes back to a recently stable revision.
	// +kubebuilder:validation:Enum=canary;return
	Kind RunKind `json:"kind"`
}

// RunKind says how a run moves.
type RunKind string

// Kinds of run.
const (
	RunCanary RunKind = "canary"
	RunReturn RunKind = "return"
)

// RunRevision is one revision as a run records it. The template is kept whole so that the
// revision's ReplicaSet can be made again if somebody deletes it.
type RunRevision struct {
	ReplicaSet      string `json:"replicaSet"`
	PodTemplateHash string `json:"podTemplateHash"`
	// template is the core/v1 PodTemplateSpec of the revision.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	Template runtime.RawExtension `json:"template"`
	// images of the template's containers, by container name.
	// +optional
	Images map[string]string `json:"images,omitempty"`
}

// Outcome is how a run ended.
//
// +kubebuilder:validation:Enum=Promoted;RolledBack;Cancelled
type Outcome string

// Outcomes of a run; empty while it is under way.
const (
	OutcomePromoted   Outcome = "Promoted"
	OutcomeRolledBack Outcome = "RolledBack"
	OutcomeCancelled  Outcome = "Cancelled"
)

// CanaryRunRecord grows while the run moves.
type CanaryRunRecord struct {
	// +optional
	Outcome Outcome `json:"outcome,omitempty"`
	// +optional
	EndedAt *metav1.Time `json:"endedAt,omitempty"`
	// entries, oldest first; one per transition.
	// +kubebuilder:validation:MaxItems=200
	// +listType=atomic
	// +optional
	Entries []RunEntry `json:"entries,omitempty"`
}

// RunEntry is one transition of a run.
type RunEntry struct {
	Time  metav1.Time `json:"time"`
	Phase Phase       `json:"phase"`
	// weight of the canary in parts of the Canary's totalWeight.
	Weight int32 `json:"weight"`
	// message is one line that says why.
	Message string `json:"message"`
}
