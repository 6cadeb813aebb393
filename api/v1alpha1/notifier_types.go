// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Notifier tells a chat or a service what happens to the Canaries of its namespace. A failing one holds
// no run.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=sluice
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Notifier struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec NotifierSpec `json:"spec"`
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status NotifierStatus `json:"status,omitzero"`
}

// NotifierList is a list of Notifier objects.
//
// +kubebuilder:object:root=true
type NotifierList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Notifier `json:"items"`
}

// NotifierSpec says who is told what.
//
// +kubebuilder:validation:XValidation:rule="has(self.address) != has(self.addressSecretRef)",message="spec: write either address or addressSecretRef"
// +kubebuilder:validation:XValidation:rule="!has(self.channel) || self.type == 'slack'",message="spec.channel: only type slack has channels; leave it out"
type NotifierSpec struct {
	// type of the service.
	// +required
	Type NotifierType `json:"type"`
	// address of the service's incoming webhook. One that holds a token belongs into a Secret. Loopback,
	// link-local and the API server's address are refused.
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="self.startsWith('https://') || self.startsWith('http://')",message="spec.address: write an address that begins with https:// or http://"
	// +optional
	Address string `json:"address,omitempty"`
	// addressSecretRef names a Secret in the same namespace: its key address is the address, its key
	// hmac signs what the type generic is sent, its key ca.crt is trusted instead of the system's
	// authorities. The controller must be given the right to read it.
	// +optional
	AddressSecretRef *SecretReference `json:"addressSecretRef,omitempty"`
	// channel that Slack is asked to show messages in, where its webhook allows to choose one.
	// +kubebuilder:validation:MaxLength=100
	// +optional
	Channel string `json:"channel,omitempty"`
	// events are the reasons that are told, such as Promoted and RolledBack; all when it is empty. They
	// are those that docs/conditions.md lists; a word that is none is said in the conditions.
	// +kubebuilder:validation:MaxItems=50
	// +kubebuilder:validation:items:MaxLength=64
	// +listType=set
	// +optional
	Events []string `json:"events,omitempty"`
	// severity of what is told: error tells only what somebody should look at, info tells all.
	// +kubebuilder:default=info
	// +kubebuilder:validation:Enum=info;error
	// +optional
	Severity string `json:"severity,omitempty"`
	// canaries selects Canaries of the namespace by their labels; all when it is absent.
	// +optional
	Canaries *metav1.LabelSelector `json:"canaries,omitempty"`
}

// NotifierType is a kind of service.
//
// +kubebuilder:validation:Enum=slack;teams;discord;generic
type NotifierType string

// Types of Notifier.
const (
	NotifierSlack   NotifierType = "slack"
	NotifierTeams   NotifierType = "teams"
	NotifierDiscord NotifierType = "discord"
	NotifierGeneric NotifierType = "generic"
)

// Severities.
const (
	SeverityInfo  = "info"
	SeverityError = "error"
)

// SecretKeyAddress is the key of a Notifier's Secret that holds its address.
const SecretKeyAddress = "address"

// Message is something that people are told of a Canary and may not have been told yet.
type Message struct {
	// id is the same each time the message is told.
	ID string `json:"id"`
	// time of what happened.
	Time metav1.Time `json:"time"`
	// +kubebuilder:validation:Enum=info;error
	Severity string `json:"severity"`
	// reason is that of the event.
	Reason string `json:"reason"`
	// text is that of the event.
	Text string `json:"text"`
	// phase that the Canary came into.
	Phase Phase `json:"phase"`
	// run that it is about.
	// +optional
	Run string `json:"run,omitempty"`
	// weight of the canary, in parts of totalWeight.
	// +optional
	Weight int32 `json:"weight,omitempty"`
	// totalWeight is what weight is a share of.
	// +optional
	TotalWeight int32 `json:"totalWeight,omitempty"`
}

// NotifierStatus says whether the service can be told.
type NotifierStatus struct {
	// observedGeneration is the generation that this status speaks of; -1 before the first look.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
