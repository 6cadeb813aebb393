// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Webhook is asked or told at certain moments of a run, by a POST of JSON.
type Webhook struct {
	// name of the webhook, unique in the Canary.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +required
	Name string `json:"name"`
	// type says when the webhook is called and what its answer means.
	// +required
	Type WebhookType `json:"type"`
	// url of the webhook. Loopback, link-local and the API server's address are refused, redirects
	// are not followed.
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="self.startsWith('https://') || self.startsWith('http://')",message="spec.webhooks[].url: write an address that begins with https:// or http://"
	// +required
	URL string `json:"url"`
	// timeout of one attempt, 1s to 5m.
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('5m')",message="spec.webhooks[].timeout: write 1s to 5m"
	// +optional
	Timeout metav1.Duration `json:"timeout,omitzero"`
	// retries after a failed attempt, 0 to 10, with pauses of 1s, 2s, 4s and so on. Those that confirm
	// are asked until they do.
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	// +optional
	Retries *int32 `json:"retries,omitempty"`
	// secretRef names a Secret in the Canary's namespace: its key hmac signs the body, its key ca.crt
	// is trusted instead of the system's authorities. The controller must be given the right to read it.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`
	// metadata is sent along as it is.
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	Metadata map[string]string `json:"metadata,omitempty"`
}

// SecretReference names a Secret in the same namespace.
type SecretReference struct {
	// name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`
}

// WebhookType says when a webhook is called and what its answer means.
//
// +kubebuilder:validation:Enum=confirm-rollout;pre-rollout;rollout;confirm-traffic-increase;confirm-promotion;post-rollout;rollback;event
type WebhookType string

// Types of webhook. Those that confirm are asked until they answer 2xx; for pre-rollout and rollout
// anything but 2xx after the retries is a failed gate; 2xx of rollback takes the traffic back;
// post-rollout and event are told and never waited for.
const (
	WebhookConfirmRollout         WebhookType = "confirm-rollout"          // Held: before canary pods are made
	WebhookPreRollout             WebhookType = "pre-rollout"              // Scaling: pods are ready, no traffic yet
	WebhookRollout                WebhookType = "rollout"                  // Holding: once for each step
	WebhookConfirmTrafficIncrease WebhookType = "confirm-traffic-increase" // before each higher weight
	WebhookConfirmPromotion       WebhookType = "confirm-promotion"        // after the last gate, before the handover
	WebhookPostRollout            WebhookType = "post-rollout"             // when the run has ended
	WebhookRollback               WebhookType = "rollback"                 // again and again during a run
	WebhookEvent                  WebhookType = "event"                    // at each event of the Canary
)

// Keys of a webhook's Secret.
const (
	SecretKeyHMAC = "hmac"
	SecretKeyCA   = "ca.crt"
)
