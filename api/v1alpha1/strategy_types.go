// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultTotalWeight is what weights are shares of unless a Canary says otherwise: percent.
const DefaultTotalWeight = 100

// Step is one share of requests and how long it is held at least.
type Step struct {
	// weight is the canary's share of requests in parts of totalWeight: percent, unless that is set.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	// +required
	Weight int32 `json:"weight"`
	// hold is the least time at this weight, counted from the moment in which the proxies that carry
	// the traffic have acknowledged it. The step lasts longer when the gate needs more evidence.
	// +kubebuilder:default="1m"
	// +optional
	Hold metav1.Duration `json:"hold,omitzero"`
}
