// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Approval is a person's word that one step of one run may be left. RBAC says who may make one;
// admission writes down who did. It never changes: to take it back, delete it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=sluice
// +kubebuilder:printcolumn:name="Canary",type=string,JSONPath=`.spec.canary`
// +kubebuilder:printcolumn:name="Run",type=string,JSONPath=`.spec.run`
// +kubebuilder:printcolumn:name="Step",type=integer,JSONPath=`.spec.step`
// +kubebuilder:printcolumn:name="Approver",type=string,JSONPath=`.approver.username`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="has(self.approver) == has(oldSelf.approver)",message="approver is written by admission when the Approval is made, never later; delete it and make another"
type Approval struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec of an Approval never changes; delete it and make another"
	// +required
	Spec ApprovalSpec `json:"spec"`
	// approver is who made this Approval. Admission writes it, over whatever was sent; an Approval
	// without it does not count.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="approver never changes; delete the Approval and make another"
	// +optional
	Approver *Approver `json:"approver,omitempty"`
}

// ApprovalList is a list of Approval objects.
//
// +kubebuilder:object:root=true
type ApprovalList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Approval `json:"items"`
}

// ApprovalSpec says what is approved: a step of a run of a Canary in the same namespace, and the
// revision that the run tries.
type ApprovalSpec struct {
	// canary is the name of the Canary.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=52
	// +required
	Canary string `json:"canary"`
	// run is the name of the run, as the Canary's status.run says it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Run string `json:"run"`
	// step is the index of the step in the Canary's spec.steps, from 0.
	// +kubebuilder:validation:Minimum=0
	// +required
	Step int32 `json:"step"`
	// revision is the candidate's hash, as the Canary's status.canary.podTemplateHash says it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Revision string `json:"revision"`
	// stepsDigest is that of the Canary's steps, as the Canary's status.stepsDigest says it: what was
	// approved is the plan that stood there, so an edit of the steps voids what was given before it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +required
	StepsDigest string `json:"stepsDigest"`
	// comment for the record.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Comment string `json:"comment,omitempty"`
}

// Approver is who made an Approval, as the API server knew him.
type Approver struct {
	// username at the API server.
	// +required
	Username string `json:"username"`
	// groups at the API server.
	// +listType=atomic
	// +optional
	Groups []string `json:"groups,omitempty"`
}

// StepApproval says whose word it takes to leave a step once its gate is passed.
type StepApproval struct {
	// count is how many different people must approve, 1 to 20.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=20
	// +optional
	Count int32 `json:"count,omitempty"`
	// validFor is how long an Approval counts after it was made, at least 1m.
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m')",message="spec.steps[].approval.validFor: write at least 1m"
	// +optional
	ValidFor *metav1.Duration `json:"validFor,omitempty"`
	// serviceAccounts that may approve, each as namespace/name. Others do not count: what a program
	// applies, a sync tool too, is no person's word.
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:MaxLength=317
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9-]+/[a-z0-9.-]+$`
	// +listType=set
	// +optional
	ServiceAccounts []string `json:"serviceAccounts,omitempty"`
}
