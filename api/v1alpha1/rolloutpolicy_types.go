// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RolloutPolicy says how many runs may be under way at once in the namespaces that it selects, when
// none may move, and stops all of them in an emergency. Returns to a recently stable template are
// rollbacks: no policy keeps them.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=sluice,shortName=rp
// +kubebuilder:printcolumn:name="Limit",type=integer,JSONPath=`.spec.maxConcurrentRuns`
// +kubebuilder:printcolumn:name="Emergency",type=string,JSONPath=`.spec.emergencyStop.mode`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type RolloutPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec RolloutPolicySpec `json:"spec,omitzero"`
	// +optional
	Status RolloutPolicyStatus `json:"status,omitzero"`
}

// RolloutPolicyList is a list of RolloutPolicy objects.
//
// +kubebuilder:object:root=true
type RolloutPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RolloutPolicy `json:"items"`
}

// RolloutPolicySpec is what people write.
type RolloutPolicySpec struct {
	// namespaceSelector selects the namespaces by their labels; all when it is left out.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// maxConcurrentRuns is how many runs may be under way at once, 1 to 1000; no limit when it is left out.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	MaxConcurrentRuns *int32 `json:"maxConcurrentRuns,omitempty"`
	// maxConcurrentRunsPerNamespace is the same for each namespace.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	MaxConcurrentRunsPerNamespace *int32 `json:"maxConcurrentRunsPerNamespace,omitempty"`
	// freezes are windows of time in which no run begins and no weight rises. At most 20.
	// +kubebuilder:validation:MaxItems=20
	// +listType=atomic
	// +optional
	Freezes []FreezeWindow `json:"freezes,omitempty"`
	// emergencyStop, while it is there, stops all runs.
	// +optional
	EmergencyStop *EmergencyStop `json:"emergencyStop,omitempty"`
}

// EmergencyStop stops runs.
type EmergencyStop struct {
	// mode: Freeze keeps all weights where they are, and rollbacks still go; RollBack takes the traffic
	// of every run back to stable. Either way no run begins; those that were taken back begin anew when
	// the stop is lifted.
	// +kubebuilder:validation:Enum=Freeze;RollBack
	// +required
	Mode EmergencyMode `json:"mode"`
	// reason for people; it is in the condition of every Canary that is stopped.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +required
	Reason string `json:"reason"`
}

// EmergencyMode is what an emergency stop does.
type EmergencyMode string

// Modes of an emergency stop.
const (
	EmergencyFreeze   EmergencyMode = "Freeze"
	EmergencyRollBack EmergencyMode = "RollBack"
)

// RolloutPolicyStatus says who has a slot.
type RolloutPolicyStatus struct {
	// running are the runs that have a slot of the budget.
	// +listType=map
	// +listMapKey=namespace
	// +listMapKey=canary
	// +optional
	Running []RunningRun `json:"running,omitempty"`
}

// RunningRun is a run that has a slot.
type RunningRun struct {
	// namespace of the Canary.
	Namespace string `json:"namespace"`
	// canary is its name.
	Canary string `json:"canary"`
	// run is the name of its run.
	Run string `json:"run"`
}

// QueueStatus is where a Canary waits for a slot.
type QueueStatus struct {
	// policy is the RolloutPolicy whose budget is used up.
	Policy string `json:"policy"`
	// position in its queue, from 1.
	Position int32 `json:"position"`
}
