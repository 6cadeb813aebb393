// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// History bounds the CanaryRuns that are kept of a Canary. A run that is under way, the rejection of
// the template that the workload has, and what may be returned to within spec.rollbackWindow are kept
// in any case. All records of a Canary together take at most 2 MiB.
type History struct {
	// limit is how many runs are kept, 1 to 100.
	// +kubebuilder:default=20
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Limit int32 `json:"limit,omitempty"`
	// maxAge is how long ago a run may have ended; without it age does not matter.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h')",message="spec.history.maxAge: write at least 1h, such as 720h"
	// +optional
	MaxAge metav1.Duration `json:"maxAge,omitzero"`
}
