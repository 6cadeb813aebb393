// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// DefaultTotalWeight is what weights are shares of unless a Canary says otherwise: percent.
const DefaultTotalWeight = 100

// Surge says how many pods a canary may have beside stable's.
//
// +kubebuilder:validation:Enum=full;deployment
type Surge string

// Kinds of surge.
const (
	SurgeFull       Surge = "full"       // as many as stable has
	SurgeDeployment Surge = "deployment" // as many as the Deployment's maxSurge allows
)

// Step says which requests the canary gets and for how long at least.
//
// +kubebuilder:validation:XValidation:rule="has(self.weight) || has(self.matches) || has(self.mirror)",message="a step must say what the canary gets: write weight, matches or mirror"
type Step struct {
	// weight is the canary's share of requests in parts of totalWeight: percent, unless that is set.
	// Steps without a weight come before those with one.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	// +optional
	Weight int32 `json:"weight,omitempty"`
	// replicas is how many pods the canary has in this step: a number, or percent of the workload's,
	// rounded up. It never has fewer than its weight needs, nor more than the workload.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^([1-9][0-9]?|100)%$`
	// +kubebuilder:validation:XValidation:rule="type(self) != int || int(self) >= 1",message="replicas: write a number of at least 1, or a percentage from 1% to 100%"
	// +optional
	Replicas *intstr.IntOrString `json:"replicas,omitempty"`
	// matches: requests that match any of these go to the canary whatever the weight. A step with
	// matches and without a weight is not compared with stable: its requests come from other people.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	// +optional
	Matches []RequestMatch `json:"matches,omitempty"`
	// mirror has requests that stable serves copied to the canary. Copies count for no gate: a step
	// that only mirrors is left when its hold is over.
	// +optional
	Mirror *Mirror `json:"mirror,omitempty"`
	// hold is the least time at this weight, counted from the moment in which the proxies that carry
	// the traffic have acknowledged it. The step lasts longer when the gate needs more evidence.
	// +kubebuilder:default="1m"
	// +optional
	Hold metav1.Duration `json:"hold,omitzero"`
	// approval asks for people's word before this step is left, once its gate is passed: see Approval.
	// The weight stays meanwhile, and the gate is judged on.
	// +optional
	Approval *StepApproval `json:"approval,omitempty"`
}

// RequestMatch says which requests it means: those for which all its parts hold. A connection that is
// no HTTP matches nothing.
//
// +kubebuilder:validation:MinProperties=1
type RequestMatch struct {
	// headers that must all hold.
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	// +optional
	Headers []HeaderMatch `json:"headers,omitempty"`
	// cookies that must all hold.
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	// +optional
	Cookies []ValueMatch `json:"cookies,omitempty"`
	// queryParams that must all hold.
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	// +optional
	QueryParams []ValueMatch `json:"queryParams,omitempty"`
	// method of the request, in capitals as it is sent.
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Z]+$')",message="method: write an HTTP method in capitals, such as GET"
	// +optional
	Method string `json:"method,omitempty"`
	// path of the request, without the query, as it is sent.
	// +optional
	Path *PathMatch `json:"path,omitempty"`
}

// HeaderMatch compares the values of one header; of several values one must hold.
//
// +kubebuilder:validation:XValidation:rule="[has(self.exact), has(self.prefix), has(self.regex), has(self.present)].filter(given, given).size() == 1",message="write exactly one of exact, prefix, regex and present"
type HeaderMatch struct {
	// name of the header, in any case.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9!#$%&*+.^_|~-]+$')",message="name: write a header's name, such as x-user"
	// +required
	Name string `json:"name"`
	// exact: the value is this, to the letter.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Exact *string `json:"exact,omitempty"`
	// prefix: the value begins with this.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Prefix *string `json:"prefix,omitempty"`
	// regex: the whole value matches this expression, in RE2's syntax.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="''.matches(self) || !''.matches(self)",message="regex: write a regular expression in RE2's syntax"
	// +optional
	Regex *string `json:"regex,omitempty"`
	// present: the header is there (true), or it is not (false).
	// +optional
	Present *bool `json:"present,omitempty"`
}

// ValueMatch compares the values of one cookie or query parameter; of several values one must hold.
//
// +kubebuilder:validation:XValidation:rule="has(self.exact) != has(self.present)",message="write exactly one of exact and present"
type ValueMatch struct {
	// name, to the letter.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +required
	Name string `json:"name"`
	// exact: the value is this, to the letter.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Exact *string `json:"exact,omitempty"`
	// present: it is there (true), or it is not (false).
	// +optional
	Present *bool `json:"present,omitempty"`
}

// PathMatch compares a request's path.
//
// +kubebuilder:validation:XValidation:rule="has(self.exact) != has(self.prefix)",message="path: write exactly one of exact and prefix"
type PathMatch struct {
	// exact: the path is this, to the letter.
	// +kubebuilder:validation:Pattern=`^/`
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Exact *string `json:"exact,omitempty"`
	// prefix: the path is this or lies below it: /api means /api and /api/users, and not /apis.
	// +kubebuilder:validation:Pattern=`^/`
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Prefix *string `json:"prefix,omitempty"`
}

// Mirror has requests that stable serves copied to the canary. Its answers are thrown away, its copies
// carry the header "sluice-mirrored: true", count for no gate and are never sent again.
type Mirror struct {
	// percent of the requests, 1 to 100.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +required
	Percent int32 `json:"percent"`
	// allowUnsafe has requests of all methods copied. Without it only GET, HEAD and OPTIONS are: a
	// copied order is ordered twice.
	// +optional
	AllowUnsafe bool `json:"allowUnsafe,omitempty"`
}

// Stickiness keeps a user at one revision: as the canary's weight grows users move to it, and none
// moves back.
//
// +kubebuilder:validation:XValidation:rule="has(self.header) != has(self.cookie)",message="stickiness: write exactly one of header and cookie"
type Stickiness struct {
	// header whose value says who the user is. Requests without it are shared by chance.
	// +optional
	Header *StickyHeader `json:"header,omitempty"`
	// cookie that the proxies set to tell users apart.
	// +optional
	Cookie *StickyCookie `json:"cookie,omitempty"`
}

// StickyHeader names a header.
type StickyHeader struct {
	// name of the header, in any case.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9!#$%&*+.^_|~-]+$')",message="name: write a header's name, such as x-user"
	// +required
	Name string `json:"name"`
}

// StickyCookie names a cookie. Its value is one of 100000 places in the order in which users move to
// the canary; it says nothing else of the user.
type StickyCookie struct {
	// name of the cookie.
	// +kubebuilder:default=sluice-revision
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9_-]+$')",message="name: write letters, digits, - and _"
	// +optional
	Name string `json:"name,omitempty"`
	// maxAge is how long the browser keeps the cookie, from 1s.
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="maxAge: write at least 1s"
	// +optional
	MaxAge *metav1.Duration `json:"maxAge,omitempty"`
}
