// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Canary says how new revisions of one workload are released: step by step, each step held until
// its gate is passed, taken back when the canary is worse than stable.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=all;sluice,shortName=cn
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Weight",type=integer,JSONPath=`.status.weight`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Run",type=string,priority=1,JSONPath=`.status.run`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 52",message="metadata.name: at most 52 characters, because it becomes a label's value with a run's number"
type Canary struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec CanarySpec `json:"spec"`
	// The default says that no controller has seen the object: kstatus would otherwise call it current.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status CanaryStatus `json:"status,omitzero"`
}

// CanaryList is a list of Canary objects.
//
// +kubebuilder:object:root=true
type CanaryList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Canary `json:"items"`
}

// CanarySpec is what people write.
//
// The steps' default is in parts of 100, so who sets totalWeight writes the steps, too.
// +kubebuilder:validation:XValidation:rule="!has(self.steps) || (has(self.steps[size(self.steps)-1].weight) && self.steps[size(self.steps)-1].weight == (has(self.totalWeight) ? self.totalWeight : 100))",message="spec.steps: the last step must have weight spec.totalWeight, which is 100 when it is left out; append {weight: 100, hold: 10m}"
type CanarySpec struct {
	// targetRef names the workload, in the same namespace, whose pod template changes are released.
	// It never changes: make a new Canary for another workload.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.targetRef never changes; delete this Canary and make one for the other workload"
	// +required
	TargetRef TargetReference `json:"targetRef"`

	// serviceRef names the Service whose port the built-in gates read. It may be left out when one
	// Service selects the workload's pods.
	// +optional
	ServiceRef *ServiceReference `json:"serviceRef,omitempty"`

	// totalWeight is what the steps' weights are shares of, 100 to 100000: with 1000 a step of weight
	// 1 is a tenth of a percent. The last step's weight must equal it.
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=100
	// +kubebuilder:validation:Maximum=100000
	// +optional
	TotalWeight int32 `json:"totalWeight,omitempty"`

	// steps are the shares of requests that the canary gets, one after the other. Weights rise from
	// step to step and the last is totalWeight.
	// +kubebuilder:default={{weight: 5, hold: "1m"}, {weight: 25, hold: "2m"}, {weight: 50, hold: "2m"}, {weight: 100, hold: "10m"}}
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:XValidation:rule="self.all(i, step, i == 0 || !has(self[i-1].weight) || (has(step.weight) && self[i-1].weight < step.weight))",message="spec.steps: weights must rise from step to step; write them in ascending order, each once, after the steps without a weight"
	// +listType=atomic
	// +optional
	Steps []Step `json:"steps,omitempty"`

	// preview: requests that match any of these reach the canary as soon as its pods are ready, in
	// every step and from weight 0: while an approval, a freeze or a webhook is waited for, too.
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	// +optional
	Preview []RequestMatch `json:"preview,omitempty"`

	// stickiness keeps a user at one revision while weights grow. Without it each request is drawn.
	// +optional
	Stickiness *Stickiness `json:"stickiness,omitempty"`

	// surge says how many pods the canary may have beside stable's: "full", as many as stable, or
	// "deployment", as many as the Deployment's maxSurge. With the latter weights never exceed what
	// those pods carry, and after the last gate the Deployment's own rolling update makes the rest.
	// +kubebuilder:default=full
	// +optional
	Surge Surge `json:"surge,omitempty"`

	// gate says what must hold to leave a step.
	// +kubebuilder:default={}
	// +optional
	Gate Gate `json:"gate,omitzero"`

	// restart says what becomes of a template change in nothing but restart annotations, such as
	// kubectl rollout restart makes: "roll", the Deployment rolls it out by itself; "canary", a run like
	// for any other change; "ask", held until people promote or abort its run.
	// +kubebuilder:default=roll
	// +optional
	Restart Restart `json:"restart,omitempty"`

	// rollbackWindow: a template that was stable at most this long ago is returned to without steps; 0s: none is.
	// +kubebuilder:default="24h"
	// +optional
	RollbackWindow *metav1.Duration `json:"rollbackWindow,omitempty"`

	// drain is how long open requests and connections of a revision that lost its traffic may last
	// before its pods go. At most 1h.
	// +kubebuilder:default="30s"
	// +optional
	Drain *metav1.Duration `json:"drain,omitempty"`

	// webhooks are asked or told at certain moments of a run.
	// +kubebuilder:validation:MaxItems=20
	// +listType=map
	// +listMapKey=name
	// +optional
	Webhooks []Webhook `json:"webhooks,omitempty"`

	// history bounds the records of runs that are kept.
	// +optional
	History *History `json:"history,omitempty"`

	// suspend stops the controller from acting on this Canary: weights and pods stay as they are. Only
	// an abort is still carried out.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	RunPolicy `json:",inline"`
}

// Restart says what becomes of a change that only restarts pods.
//
// +kubebuilder:validation:XValidation:rule="self in ['roll', 'canary', 'ask']",message="spec.restart: write roll, canary or ask"
type Restart string

// Kinds of restart; empty, in a Canary written without defaults, is RestartRoll.
const (
	RestartRoll   Restart = "roll"   // by the Deployment's own rolling update, never held
	RestartCanary Restart = "canary" // in a run like any other change
	RestartAsk    Restart = "ask"    // held until people say so
)

// TargetReference names a workload in the Canary's namespace.
type TargetReference struct {
	// apiVersion of the workload.
	// +kubebuilder:default="apps/v1"
	// +kubebuilder:validation:Enum=apps/v1
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`
	// kind of the workload.
	// +kubebuilder:default=Deployment
	// +kubebuilder:validation:Enum=Deployment
	// +optional
	Kind string `json:"kind,omitempty"`
	// name of the workload.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name"`
}

// ServiceReference names a Service in the Canary's namespace.
type ServiceReference struct {
	// name of the Service.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +required
	Name string `json:"name"`
}

// Gate holds the objectives of a workload. Canary and stable are compared as well: a canary fails
// only when it is worse than stable.
type Gate struct {
	// successRate is the objective for the share of requests that succeed, in percent, above 0 and
	// below 100. Fractions are written as strings: "99.9".
	// +kubebuilder:default=99
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[0-9]{1,2}(\.[0-9]{1,4})?$`
	// +kubebuilder:validation:XValidation:rule="double(string(self)) > 0.0 && double(string(self)) < 100.0",message="spec.gate.successRate: write a percentage above 0 and below 100, such as 99 or \"99.9\""
	// +optional
	SuccessRate *intstr.IntOrString `json:"successRate,omitempty"`
	// latency is the objective for response times.
	// +kubebuilder:default={p99: "500ms"}
	// +optional
	Latency *LatencyObjective `json:"latency,omitempty"`
	// metrics of the workload's own.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Metrics []GateMetric `json:"metrics,omitempty"`
	// prometheus is where the counters are read; the controller's own server when it is left out.
	// +optional
	Prometheus *PrometheusReference `json:"prometheus,omitempty"`
}

// PrometheusReference names a server of metrics. It holds no credentials: those of an address are the
// operator's, as is the list of the addresses that may be named.
type PrometheusReference struct {
	// address is the base URL, such as https://mimir.example.com/prometheus, exactly as the operator
	// has allowed it.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^https?://[^/?#@\s]+(/[^?#\s]*)?$`
	// +required
	Address string `json:"address"`
}

// LatencyObjective bounds response times.
type LatencyObjective struct {
	// p99: at most 1 % of responses may take longer. A limit between two bucket edges of the
	// histogram is judged at the stricter (lower) edge.
	// +kubebuilder:default="500ms"
	// +optional
	P99 metav1.Duration `json:"p99,omitzero"`
}

// Phase is where a run stands.
//
// +kubebuilder:validation:Enum=Stable;Held;Scaling;Shifting;Holding;AwaitingApproval;Promoting;RollingBack;Rejected
type Phase string

// Phases of a Canary.
const (
	PhaseStable           Phase = "Stable"           // no run; the workload runs its promoted template
	PhaseHeld             Phase = "Held"             // a new template waits; its run is being set up
	PhaseScaling          Phase = "Scaling"          // canary pods are being made for the next weight
	PhaseShifting         Phase = "Shifting"         // a weight is written and not yet acknowledged by all proxies
	PhaseHolding          Phase = "Holding"          // a step's weight is in force and its gate is being judged
	PhaseAwaitingApproval Phase = "AwaitingApproval" // a step's gate is passed and people's word is missing
	PhasePromoting        Phase = "Promoting"        // the handover to the Deployment is under way
	PhaseRollingBack      Phase = "RollingBack"      // traffic goes to stable, then the canary's pods go
	PhaseRejected         Phase = "Rejected"         // the Deployment is held at a template that was rejected
)

// CanaryStatus is where the current run stands.
type CanaryStatus struct {
	// observedGeneration is the Canary's generation that this status speaks of; -1 before the first look.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// observedWorkloadGeneration is the workload's generation that this status speaks of.
	// +optional
	ObservedWorkloadGeneration int64 `json:"observedWorkloadGeneration,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// +optional
	Phase Phase `json:"phase,omitempty"`
	// run is the name of the CanaryRun that is under way or was the last.
	// +optional
	Run string `json:"run,omitempty"`
	// step is the index of the current step in spec.steps, from 0; -1 when spec.steps was edited
	// and all its weights are above the current one. Meaningful during a run.
	// +optional
	Step int32 `json:"step,omitempty"`
	// weight is the canary's share of requests, in parts of totalWeight, as last written to the
	// TrafficSplit.
	// +optional
	Weight int32 `json:"weight"`
	// totalWeight is what weight is a share of: spec.totalWeight as it was when weight was written.
	// +optional
	TotalWeight int32 `json:"totalWeight,omitempty"`
	// stepStartedAt is when the current step's weight was acknowledged by all proxies.
	// +optional
	StepStartedAt *metav1.Time `json:"stepStartedAt,omitempty"`
	// evidenceSince is from when on requests count for the gate, if that is later than the run's
	// start: while the workload had no replicas neither revision could answer.
	// +optional
	EvidenceSince *metav1.Time `json:"evidenceSince,omitempty"`
	// phaseStartedAt is when the current phase began.
	// +optional
	PhaseStartedAt *metav1.Time `json:"phaseStartedAt,omitempty"`
	// stable is the revision that is trusted.
	// +optional
	Stable *RevisionStatus `json:"stable,omitempty"`
	// canary is the revision that is being tried; during a bake, the one that was promoted.
	// +optional
	Canary *RevisionStatus `json:"canary,omitempty"`
	// verdict is the last judgement of the gate.
	// +optional
	Verdict *VerdictStatus `json:"verdict,omitempty"`
	// lastHandledReconcileAt is the value of the annotation reconcile.fluxcd.io/requestedAt that was
	// handled last.
	// +optional
	LastHandledReconcileAt string `json:"lastHandledReconcileAt,omitempty"`
	// queue is where the Canary waits for a slot of a RolloutPolicy's budget, while it does.
	// +optional
	Queue *QueueStatus `json:"queue,omitempty"`
	// stepsDigest is that of spec.steps during a run, when one of them asks for approval: Approvals name it.
	// +optional
	StepsDigest string `json:"stepsDigest,omitempty"`
	// messages are what the namespace's Notifiers want to be told and may not have been told yet: they
	// are written with the transition that they tell of and leave when each Notifier has taken or
	// refused them. Of more than 20 the oldest are dropped.
	// +listType=map
	// +listMapKey=id
	// +optional
	Messages []Message `json:"messages,omitempty"`
	// lastHandledRestartAt is the value of the annotation sluice.dev/restart that was handled last.
	// +optional
	LastHandledRestartAt string `json:"lastHandledRestartAt,omitempty"`
}

// RevisionStatus names one revision of the workload.
type RevisionStatus struct {
	// replicaSet that has the revision's pods.
	ReplicaSet string `json:"replicaSet"`
	// podTemplateHash is the value of the label pod-template-hash on the revision's pods.
	PodTemplateHash string `json:"podTemplateHash"`
	// replicas wanted.
	Replicas int32 `json:"replicas"`
	// readyReplicas seen.
	ReadyReplicas int32 `json:"readyReplicas"`
}

// VerdictStatus is what the gate said last and why.
type VerdictStatus struct {
	// +kubebuilder:validation:Enum=pass;fail;wait;hold
	Verdict string `json:"verdict"`
	// reason is one line with the numbers.
	Reason string `json:"reason"`
	// time of the judgement.
	Time metav1.Time `json:"time"`
	// canary and stable count requests since the run's start.
	// +optional
	Canary *RequestCounts `json:"canary,omitempty"`
	// +optional
	Stable *RequestCounts `json:"stable,omitempty"`
}

// RequestCounts are requests and how many of them were bad.
type RequestCounts struct {
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"`
	Slow     int64 `json:"slow"`
}
