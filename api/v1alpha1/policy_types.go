// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RunPolicy is the part of a Canary's spec that says when a run may move, besides its gates.
type RunPolicy struct {
	// skipAnalysis: the gate is not asked. Steps, their holds, their capacity and their approvals stay.
	// +optional
	SkipAnalysis bool `json:"skipAnalysis,omitempty"`

	// priority in the queues of RolloutPolicies, -1000 to 1000. A point is worth a minute of waiting, so
	// that nobody waits for ever.
	// +kubebuilder:validation:Minimum=-1000
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Priority int32 `json:"priority,omitempty"`

	// dependsOn names Canaries that must be at rest, not in a run and not rejected, whenever a step is
	// begun. At most 20.
	// +kubebuilder:validation:MaxItems=20
	// +listType=atomic
	// +optional
	DependsOn []CanaryReference `json:"dependsOn,omitempty"`

	// freezes are windows of time in which no run begins and no weight rises. Rollbacks, and returns to
	// a recently stable template, always go. At most 20.
	// +kubebuilder:validation:MaxItems=20
	// +listType=atomic
	// +optional
	Freezes []FreezeWindow `json:"freezes,omitempty"`

	// deadlines say how long each phase of a run may last before it is called late.
	// +kubebuilder:default={}
	// +optional
	Deadlines Deadlines `json:"deadlines,omitzero"`

	// maxHold is how much longer than its hold a step may last while the gate says wait or hold, or
	// gives no answer. After that onInconclusive is done.
	// +kubebuilder:default="2h"
	// +optional
	MaxHold *metav1.Duration `json:"maxHold,omitempty"`

	// onInconclusive is what is done when maxHold is over: hold goes on waiting, with the reason
	// Inconclusive and a warning; rollback takes the traffic back and rejects the template; promote goes
	// on to the next step as if the gate had been passed.
	// +kubebuilder:default=hold
	// +kubebuilder:validation:Enum=hold;rollback;promote
	// +optional
	OnInconclusive InconclusiveAction `json:"onInconclusive,omitempty"`
}

// InconclusiveAction is what is done about a step without a verdict.
type InconclusiveAction string

// Actions for a step without a verdict.
const (
	InconclusiveHold     InconclusiveAction = "hold"
	InconclusiveRollback InconclusiveAction = "rollback"
	InconclusivePromote  InconclusiveAction = "promote"
)

// CanaryReference names a Canary.
type CanaryReference struct {
	// name of the Canary.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=52
	// +required
	Name string `json:"name"`
	// namespace of the Canary; the referring one's own when it is left out.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// FreezeWindow is a window of time that comes again and again.
type FreezeWindow struct {
	// schedule is when the window opens: a cron expression of five fields (minute, hour, day of month,
	// month, day of week), such as "0 18 * * 5" for Fridays at 18:00. A time that the clock skips when
	// summer begins counts as the moment of the change; one that it shows twice counts once, the first
	// time.
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:Pattern=`^\S+( +\S+){4}$`
	// +required
	Schedule string `json:"schedule"`
	// duration is how long the window stays open, such as 62h; longer than nothing.
	// +required
	Duration metav1.Duration `json:"duration"`
	// timeZone in which the schedule is read: a name of the IANA time zone database, such as
	// Europe/Berlin.
	// +kubebuilder:default=UTC
	// +kubebuilder:validation:MaxLength=64
	// +optional
	TimeZone string `json:"timeZone,omitempty"`
}

// Deadlines say how long phases may last. Past a deadline the condition's reason is DeadlinePassed,
// its message names what is waited for, and a warning event is sent once; the run goes on waiting,
// but for scaling. Time in which people, a freeze window or an emergency stop keep the run from moving
// is not called late.
type Deadlines struct {
	// held: how long a new template may wait for its run to begin.
	// +kubebuilder:default="24h"
	// +optional
	Held *metav1.Duration `json:"held,omitempty"`
	// scaling: how long the canary's pods may take to become ready. Pods that run and are not ready by
	// then end the run in a rollback; pods that nobody could make or place are waited for. The default
	// is the workload's progressDeadlineSeconds.
	// +optional
	Scaling *metav1.Duration `json:"scaling,omitempty"`
	// shifting: how long the proxies may take to acknowledge a weight.
	// +kubebuilder:default="10m"
	// +optional
	Shifting *metav1.Duration `json:"shifting,omitempty"`
	// approval: how long a step that has passed its gate may wait for approvals.
	// +kubebuilder:default="24h"
	// +optional
	Approval *metav1.Duration `json:"approval,omitempty"`
	// promoting: how long the handover may take.
	// +kubebuilder:default="30m"
	// +optional
	Promoting *metav1.Duration `json:"promoting,omitempty"`
}
