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
	// evidence is what the gate has concluded so far, so that a controller that restarts goes on from
	// there. It is kept while the run is under way, and is no part of the record.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +optional
	Evidence *runtime.RawExtension `json:"evidence,omitempty"`
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
	// source is where the candidate came from, as far as the sync tool says.
	// +optional
	Source *RunSource `json:"source,omitempty"`
	// previous is the record of the run before, as it stood when this one began: a run that is
	// missing in between was removed.
	// +optional
	Previous *RunLink `json:"previous,omitempty"`
}

// RunSource names the change in Git that a run tries.
type RunSource struct {
	// tool that applied the workload: Flux, ArgoCD, or the annotations of the workload itself.
	// +kubebuilder:validation:Enum=Flux;ArgoCD;Annotation
	Tool string `json:"tool"`
	// object of the tool that applied it, as kind namespace/name.
	// +optional
	Object string `json:"object,omitempty"`
	// revision as the tool writes it, such as main@sha1:1f2e3d... or a commit.
	// +optional
	Revision string `json:"revision,omitempty"`
	// author of the change, if it is known.
	// +optional
	Author string `json:"author,omitempty"`
}

// Tools that a RunSource names.
const (
	SourceFlux       = "Flux"
	SourceArgoCD     = "ArgoCD"
	SourceAnnotation = "Annotation"
)

// RunLink names an entry of another run.
type RunLink struct {
	Run    string `json:"run"`
	Number int32  `json:"number"`
	Hash   string `json:"hash"`
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
	// entries, oldest first; one per transition and per change of the verdict. When there are too many,
	// the oldest that nobody asked for are folded into one that counts them.
	// +kubebuilder:validation:MaxItems=200
	// +listType=atomic
	// +optional
	Entries []RunEntry `json:"entries,omitempty"`
	// head is the last entry, signed.
	// +optional
	Head *RunHead `json:"head,omitempty"`
}

// RunEntry is one transition of a run, or something that was seen, asked or answered.
type RunEntry struct {
	// number counts the run's entries from 1.
	// +optional
	Number int32       `json:"number,omitempty"`
	Time   metav1.Time `json:"time"`
	Phase  Phase       `json:"phase"`
	// weight of the canary in parts of the Canary's totalWeight.
	Weight int32 `json:"weight"`
	// totalWeight is what weight is a share of, if that is not 100.
	// +optional
	TotalWeight int32 `json:"totalWeight,omitempty"`
	// message is one line that says why.
	Message string `json:"message"`
	// outcome that was decided here.
	// +optional
	Outcome Outcome `json:"outcome,omitempty"`
	// request that somebody made.
	// +optional
	Request *RunRequest `json:"request,omitempty"`
	// approval that was counted.
	// +optional
	Approval *RunApproval `json:"approval,omitempty"`
	// measurement is what the gate saw when its verdict changed or decided.
	// +optional
	Measurement *RunMeasurement `json:"measurement,omitempty"`
	// hook is what a webhook answered.
	// +optional
	Hook *RunHook `json:"hook,omitempty"`
	// digest is the SHA-256 of measurement and hook, in hexadecimal. It stays when they were dropped
	// to save space.
	// +optional
	Digest string `json:"digest,omitempty"`
	// folded is how many entries, this one included, were folded into this one.
	// +optional
	Folded int32 `json:"folded,omitempty"`
	// hash is the SHA-256 of the hash before and of this entry without measurement, hook and hash,
	// in hexadecimal.
	// +optional
	Hash string `json:"hash,omitempty"`
}

// RunRequest is what somebody asked of a run.
type RunRequest struct {
	// action: promote, abort, pause, resume, retry or restart.
	Action string `json:"action"`
	// by names who asked, as far as the API server noted it.
	// +optional
	By string `json:"by,omitempty"`
}

// RunApproval is an Approval that was counted.
type RunApproval struct {
	// name of the Approval.
	Name string `json:"name"`
	// username that admission stamped.
	Username string `json:"username"`
	// step that was approved.
	Step int32 `json:"step"`
	// +optional
	Comment string `json:"comment,omitempty"`
}

// RunMeasurement is one look at the gate.
type RunMeasurement struct {
	// +kubebuilder:validation:Enum=pass;fail;wait;hold
	Verdict string `json:"verdict"`
	// reason is one line with the numbers.
	Reason string `json:"reason"`
	// queries that were asked, as the source writes them.
	// +listType=atomic
	// +optional
	Queries []string `json:"queries,omitempty"`
	// canary and stable count requests since the run's start.
	// +optional
	Canary *RequestCounts `json:"canary,omitempty"`
	// +optional
	Stable *RequestCounts `json:"stable,omitempty"`
}

// RunHook is one answer of a webhook.
type RunHook struct {
	// name of the webhook in the Canary.
	Name string `json:"name"`
	// type of the webhook.
	Type string `json:"type"`
	// attempt counts from 1 for the same question.
	Attempt int32 `json:"attempt"`
	// code is the status of the HTTP response; 0 when there was none.
	// +optional
	Code int32 `json:"code,omitempty"`
	// error says why there was no response.
	// +optional
	Error string `json:"error,omitempty"`
}

// RunHead is the last entry of a record, signed by the controller.
type RunHead struct {
	Number int32  `json:"number"`
	Hash   string `json:"hash"`
	// summarised is how many measurements and hooks were dropped and entries folded.
	// +optional
	Summarised int32 `json:"summarised,omitempty"`
	// keyId is the first half of the SHA-256 of the public key, in hexadecimal.
	// +optional
	KeyID string `json:"keyId,omitempty"`
	// signature is Ed25519 over the canonical JSON of namespace, run, number, hash, summarised,
	// outcome and endedAt, in base64. Without it somebody else has changed the record.
	// +optional
	Signature string `json:"signature,omitempty"`
}
