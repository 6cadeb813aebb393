// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "k8s.io/apimachinery/pkg/util/intstr"

// GateMetric is a metric of the workload's own: counters, which are compared between the revisions as
// failed requests are, or a number that stays within a range.
//
// +kubebuilder:validation:XValidation:rule="[has(self.counters), has(self.number), has(self.query)].filter(given, given).size() == 1",message="write one of counters, number and query"
// +kubebuilder:validation:XValidation:rule="!(self.name in ['errors', 'latency'])",message="errors and latency are built in: write another name"
type GateMetric struct {
	// name is how verdicts call the metric.
	// +required
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// counters of all and of good events.
	// +optional
	Counters *MetricCounters `json:"counters,omitempty"`
	// number that stays within a range.
	// +optional
	Number *MetricNumber `json:"number,omitempty"`
	// query in PromQL for a number that stays within a range.
	// +optional
	Query *MetricQuery `json:"query,omitempty"`
}

// MetricCounters are counters that only grow, of the pods themselves. Both revisions have them.
type MetricCounters struct {
	// total counts all events.
	// +required
	Total MetricSelector `json:"total"`
	// good counts those of them that were good.
	// +required
	Good MetricSelector `json:"good"`
	// objective is the least share that is good, in percent, above 0 and below 100. Fractions are
	// written as strings: "99.9".
	// +required
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^[0-9]{1,2}(\.[0-9]{1,4})?$`
	// +kubebuilder:validation:XValidation:rule="double(string(self)) > 0.0 && double(string(self)) < 100.0",message="write a percentage above 0 and below 100, such as 99 or \"99.9\""
	Objective intstr.IntOrString `json:"objective"`
}

// MetricSelector names series of the workload's pods in Prometheus. Namespace and revision are added
// and cannot be left out.
type MetricSelector struct {
	// metric is its name.
	// +required
	// +kubebuilder:validation:Pattern=`^[a-zA-Z_:][a-zA-Z0-9_:]*$`
	// +kubebuilder:validation:MaxLength=200
	Metric string `json:"metric"`
	// labels that the series have, with these very values.
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(name, name.matches('^[a-zA-Z_][a-zA-Z0-9_]*$') && !(name in ['__name__', 'namespace', 'pod_template_hash']) && size(self[name]) <= 500)",message="names of labels are letters, digits and underscores; __name__, namespace and pod_template_hash are set already; a value has at most 500 characters"
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
}

// MetricNumber is a number that counts nothing, such as a queue's length. It is looked at every 15
// seconds. No number is no failure: the step is not left, and nothing is rolled back.
//
// +kubebuilder:validation:XValidation:rule="has(self.min) || has(self.max)",message="write min, max or both"
// +kubebuilder:validation:XValidation:rule="self.failures <= self.of",message="failures is at most of: so many of the last samples"
type MetricNumber struct {
	MetricSelector `json:",inline"`
	// aggregate makes one number of the pods' numbers.
	// +kubebuilder:validation:Enum=sum;avg;min;max
	// +kubebuilder:default=avg
	// +optional
	Aggregate string `json:"aggregate,omitempty"`
	// pods that are looked at: the canary's, or all of the run's.
	// +kubebuilder:validation:Enum=canary;all
	// +kubebuilder:default=canary
	// +optional
	Pods        string `json:"pods,omitempty"`
	MetricRange `json:",inline"`
}

// MetricQuery is a query for one number, for one of each revision (by the label pod_template_hash, of
// which the canary's is meant), or, without min and max, for 1 where all is well and 0 where it is not. It
// is asked every 15 seconds. No number is no failure.
//
// +kubebuilder:validation:XValidation:rule="self.failures <= self.of",message="failures is at most of: so many of the last samples"
type MetricQuery struct {
	// promQL is the query. It reads series of the Canary's namespace alone. In values of labels, $canary
	// and $stable are the revisions' pod_template_hash, $workload and $namespace what they say.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	PromQL string `json:"promQL"`

	MetricRange `json:",inline"`
}

// MetricRange are the numbers that are good, and how many others roll the canary back.
type MetricRange struct {
	// min is the least number that is good. Fractions are written as strings: "0.5".
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^-?[0-9]{1,15}(\.[0-9]{1,9})?$`
	// +optional
	Min *intstr.IntOrString `json:"min,omitempty"`
	// max is the greatest number that is good.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^-?[0-9]{1,15}(\.[0-9]{1,9})?$`
	// +optional
	Max *intstr.IntOrString `json:"max,omitempty"`
	// failures out of so many samples roll the canary back.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:default=2
	// +optional
	Failures int32 `json:"failures,omitempty"`
	// of the last so many samples.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:default=3
	// +optional
	Of int32 `json:"of,omitempty"`
}

// Values of MetricNumber.Pods.
const (
	PodsCanary = "canary"
	PodsAll    = "all"
)
