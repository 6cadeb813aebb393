// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TrafficPolicy says what the mesh demands of requests and connections to the Service of the same name
// and namespace. The proxies of its callers apply it; callers without a proxy know nothing of it. The part overload is
// applied by the proxies of the Service's own pods.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=sluice,shortName=tp
// +kubebuilder:printcolumn:name="Request",type=string,JSONPath=`.spec.timeouts.request`
// +kubebuilder:printcolumn:name="Try",type=string,JSONPath=`.spec.timeouts.try`
// +kubebuilder:printcolumn:name="Idle",type=string,JSONPath=`.spec.timeouts.idle`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type TrafficPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec TrafficPolicySpec `json:"spec"`
}

// TrafficPolicyList is a list of TrafficPolicy objects.
//
// +kubebuilder:object:root=true
type TrafficPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficPolicy `json:"items"`
}

// TrafficPolicySpec is what people write.
type TrafficPolicySpec struct {
	// timeouts of requests and connections to the Service; none when it is left out.
	// +optional
	Timeouts *Timeouts `json:"timeouts,omitempty"`
	// circuitBreaker bounds what a proxy has open at each endpoint of the Service; nothing does when it is
	// left out.
	// +optional
	CircuitBreaker *CircuitBreaker `json:"circuitBreaker,omitempty"`
	// retries are requests that are sent again because of their answer; none when it is left out.
	// +optional
	Retries *Retries `json:"retries,omitempty"`
	// outlierEjection leaves out endpoints that fail while others do not; none is left out when it is. While
	// the Service's workload has a TrafficSplit nobody is.
	// +kubebuilder:validation:XValidation:rule="!has(self.baseTime) || !has(self.maxTime) || duration(self.baseTime) <= duration(self.maxTime)",message="spec.outlierEjection.maxTime: write at least baseTime"
	// +optional
	OutlierEjection *OutlierEjection `json:"outlierEjection,omitempty"`
	// overload says what the pods of the Service refuse first when they have too much to do, and which answers
	// they send no faster than at a rate; they refuse nothing and hold nothing back when it is left out.
	// +optional
	Overload *Overload `json:"overload,omitempty"`
}

// Timeouts say when the caller's proxy gives up. Each is 1ms to 24h, in whole milliseconds; without one
// nothing is given up for that reason.
type Timeouts struct {
	// request is how long a request may take from its head to the end of its answer, all tries together.
	// Leave it out for Services that answer with streams. An Upgrade or a CONNECT that was agreed to has
	// met it.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('24h')",message="spec.timeouts.request: write 1ms to 24h, such as 10s"
	// +optional
	Request *metav1.Duration `json:"request,omitempty"`
	// try is how long one try may take from when its endpoint is chosen to the head of the answer,
	// connecting included.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('24h')",message="spec.timeouts.try: write 1ms to 24h, such as 2s"
	// +optional
	Try *metav1.Duration `json:"try,omitempty"`
	// idle is how long a request that was sent, what an Upgrade or a CONNECT has made of it, or a
	// connection that is carried as bytes, may go without a byte in either direction.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('24h')",message="spec.timeouts.idle: write 1ms to 24h, such as 5m"
	// +optional
	Idle *metav1.Duration `json:"idle,omitempty"`
}

// CircuitBreaker bounds what a proxy has open at each endpoint.
type CircuitBreaker struct {
	// maxParallelRequests is how many requests, and connections that are carried as bytes, a proxy may
	// have open at one endpoint. When all endpoints of the revision that was drawn for another have as
	// many, it is refused.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +required
	MaxParallelRequests int32 `json:"maxParallelRequests"`
}

// Retries say which requests are sent again because of their answer. The fields have the names that
// Gateway API gives them (GEP-1731, GEP-3388).
type Retries struct {
	// codes of answers after which a request is sent again: 502, 503 and 504 when it is left out. Those
	// of gRPC's answers do not count.
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:Minimum=400
	// +kubebuilder:validation:items:Maximum=599
	// +listType=set
	// +kubebuilder:default={502,503,504}
	// +optional
	Codes []int32 `json:"codes,omitempty"`
	// grpcCodes are statuses of gRPC after which a call is sent again, which is asked for by naming them;
	// none when it is left out. Only a call that was answered with its status and nothing else is.
	// +kubebuilder:validation:MaxItems=5
	// +listType=set
	// +optional
	GRPCCodes []RetriedGRPCCode `json:"grpcCodes,omitempty"`
	// methods of requests that may be sent again: the safe ones when it is left out. Add others only if the
	// application can be asked twice for the same.
	// +kubebuilder:validation:MaxItems=8
	// +listType=set
	// +kubebuilder:default={GET,HEAD,OPTIONS,TRACE}
	// +optional
	Methods []RetriedMethod `json:"methods,omitempty"`
	// attempts is how often one request is sent again.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=5
	// +kubebuilder:default=1
	// +optional
	Attempts int32 `json:"attempts,omitempty"`
	// budget bounds retries by requests.
	// +kubebuilder:default={percent: 20, interval: "10s"}
	// +optional
	Budget *RetryBudget `json:"budget,omitempty"`
	// minRetryRate is how many retries there may be whatever the budget.
	// +kubebuilder:default={count: 10, interval: "1s"}
	// +optional
	MinRetryRate *RetryRate `json:"minRetryRate,omitempty"`
}

// RetriedMethod is a method of requests.
//
// +kubebuilder:validation:Enum=GET;HEAD;OPTIONS;TRACE;PUT;DELETE;POST;PATCH
type RetriedMethod string

// RetriedGRPCCode is a status of gRPC.
//
// +kubebuilder:validation:Enum=CANCELLED;DEADLINE_EXCEEDED;RESOURCE_EXHAUSTED;INTERNAL;UNAVAILABLE
type RetriedGRPCCode string

// RetryBudget bounds the retries of a proxy to a Service to a share of its requests.
type RetryBudget struct {
	// percent of the requests of the interval may be retries.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:default=20
	// +optional
	Percent *int32 `json:"percent,omitempty"`
	// interval over which requests and retries are counted.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="spec.retries.budget.interval: write 1s to 1h, such as 10s"
	// +kubebuilder:default="10s"
	// +optional
	Interval *metav1.Duration `json:"interval,omitempty"`
}

// RetryRate is a number of retries in a time.
type RetryRate struct {
	// count of retries in the interval.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +kubebuilder:default=10
	// +optional
	Count *int32 `json:"count,omitempty"`
	// interval in which there may be so many.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="spec.retries.minRetryRate.interval: write 1s to 1h, such as 1s"
	// +kubebuilder:default="1s"
	// +optional
	Interval *metav1.Duration `json:"interval,omitempty"`
}

// OutlierEjection says when a proxy leaves out an endpoint of the Service, and for how long.
type OutlierEjection struct {
	// consecutiveFailures in a row leave an endpoint out; 0 has failures in a row leave out nobody.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	// +kubebuilder:default=5
	// +optional
	ConsecutiveFailures *int32 `json:"consecutiveFailures,omitempty"`
	// successRate leaves out endpoints that fail more often than the others of their revision.
	// +kubebuilder:default={interval: "10s", minRequests: 100, minEndpoints: 5}
	// +optional
	SuccessRate *SuccessRateEjection `json:"successRate,omitempty"`
	// baseTime is how long an endpoint is left out the first time: twice as long the second, three times
	// the third, and up to a quarter more by chance.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="spec.outlierEjection.baseTime: write 1s to 1h, such as 30s"
	// +kubebuilder:default="30s"
	// +optional
	BaseTime *metav1.Duration `json:"baseTime,omitempty"`
	// maxTime is the longest that an endpoint is left out at once, but for what chance adds.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="spec.outlierEjection.maxTime: write 1s to 24h, such as 5m"
	// +kubebuilder:default="5m"
	// +optional
	MaxTime *metav1.Duration `json:"maxTime,omitempty"`
	// maxPercent of the ready endpoints are left out at once, or one if that is less than one. The last is
	// never.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	// +kubebuilder:default=50
	// +optional
	MaxPercent *int32 `json:"maxPercent,omitempty"`
}

// SuccessRateEjection compares endpoints by the share of their requests that succeeded.
type SuccessRateEjection struct {
	// interval in which requests are counted, and after which endpoints are compared.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="spec.outlierEjection.successRate.interval: write 1s to 1h, such as 10s"
	// +kubebuilder:default="10s"
	// +optional
	Interval *metav1.Duration `json:"interval,omitempty"`
	// minRequests is from how many requests in the interval on an endpoint is compared; 0 compares nobody.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +kubebuilder:default=100
	// +optional
	MinRequests *int32 `json:"minRequests,omitempty"`
	// minEndpoints is from how many such endpoints on they are compared.
	// +kubebuilder:validation:Minimum=5
	// +kubebuilder:validation:Maximum=1000
	// +kubebuilder:default=5
	// +optional
	MinEndpoints *int32 `json:"minEndpoints,omitempty"`
}
