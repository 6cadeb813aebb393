// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Overload says what the proxies of the Service's own pods do when there is too much to do. It holds for
// callers without a proxy, too. Where several Services lead to a port of a pod, that of the Service whose name
// comes first counts.
//
// +kubebuilder:validation:XValidation:rule="has(self.maxParallelRequests) || (has(self.classes) && size(self.classes) > 0)",message="spec.overload: write maxParallelRequests, classes or both"
type Overload struct {
	// maxParallelRequests is how many requests of the Service may be open at the application of one pod, 1 to
	// 1000000; any number when it is left out. What is more is refused at once: requests of priority low when
	// 75 % of it are open, whatever their priorities, those of priority default when 90 % are.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	MaxParallelRequests *int32 `json:"maxParallelRequests,omitempty"`
	// classes of requests. The first that means a request counts; what none means has priority default.
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Classes []TrafficClass `json:"classes,omitempty"`
}

// TrafficClass is what some requests have in common.
//
// +kubebuilder:validation:XValidation:rule="has(self.from) || (has(self.routes) && size(self.routes) > 0)",message="classes: write from, routes or both"
type TrafficClass struct {
	// priority: under overload requests of priority low are refused first, those of priority critical last.
	// +kubebuilder:validation:Enum=critical;default;low
	// +kubebuilder:default=default
	// +optional
	Priority TrafficPriority `json:"priority,omitempty"`
	// from says whose requests are meant; everybody's when it is left out.
	// +optional
	From *Callers `json:"from,omitempty"`
	// routes are the requests that are meant; all when there are none.
	// +kubebuilder:validation:MaxItems=32
	// +optional
	Routes []RatedRoute `json:"routes,omitempty"`
	// bytesPerSecond is how much content one pod sends in answers to all requests of the class together, 1024
	// to 1000000000000; any number when it is left out.
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=1000000000000
	// +optional
	BytesPerSecond *int64 `json:"bytesPerSecond,omitempty"`
}

// TrafficPriority is a priority of requests.
type TrafficPriority string

// Priorities of requests.
const (
	PriorityCritical TrafficPriority = "critical"
	PriorityDefault  TrafficPriority = "default"
	PriorityLow      TrafficPriority = "low"
)
