// SPDX-License-Identifier: Apache-2.0

// Package mesh is the vocabulary of the mesh as plain data: where a request may go, how it is
// shared between revisions, who must answer. The JSON form of these structs is at once the golden
// files of discovery, the proxy's /config_dump and what a person reads when something is odd.
//
// It must not act: no network, no Kubernetes, no clock, only the standard library.
package mesh

import "slices"

// Protocol is what is spoken on a port.
type Protocol string

// Protocols. Detect means: look at the first bytes. HTTP1 is HTTP of either version: what begins with
// the preface of HTTP/2 is that.
const (
	ProtocolDetect Protocol = "detect"
	ProtocolHTTP1  Protocol = "http1"
	ProtocolTCP    Protocol = "tcp"
)

// Snapshot is everything that one proxy knows at one moment. It is immutable once published: a
// request reads one snapshot from its start to its end.
type Snapshot struct {
	// Version is that of the newest response in force, 0 before the first.
	Version uint64 `json:"version"`
	// Destinations by "ip:port".
	Destinations map[string]*Destination `json:"destinations,omitempty"`
	Inbound      Inbound                 `json:"inbound"`
}

// Destination is where an address that an application dialled leads.
type Destination struct {
	// Address is "ip:port".
	Address string `json:"address"`
	// Unknown addresses are forwarded to as they are.
	Unknown bool `json:"unknown,omitempty"`
	// PodAddress is true when the address is a pod's own and not a Service's.
	PodAddress bool     `json:"podAddress,omitempty"`
	Service    Service  `json:"service,omitzero"`
	Protocol   Protocol `json:"protocol,omitempty"`
	// HTTP2 says that the port was declared to speak HTTP/2, be that all that it does.
	HTTP2     bool       `json:"http2,omitempty"`
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	// Splits of the workloads among the endpoints.
	Splits []Split `json:"splits,omitempty"`
	// Timeouts of requests and connections to it.
	Timeouts Timeouts `json:"timeouts,omitzero"`
	// MaxParallelRequests is how many requests and connections a proxy may have open at each endpoint; 0 is
	// any number.
	MaxParallelRequests uint32 `json:"maxParallelRequests,omitempty"`
	// Retries of requests to it; nil is none.
	Retries *Retries `json:"retries,omitempty"`
	// OutlierEjection leaves out endpoints that fail while others do not; nil leaves out nobody.
	OutlierEjection *OutlierEjection `json:"outlierEjection,omitempty"`
}

// Timeouts are in milliseconds; 0 is none.
type Timeouts struct {
	// Request is how long a request may take from its head to the end of its answer.
	Request uint32 `json:"request,omitempty"`
	// Try is how long one try may take from when its endpoint is chosen to the head of the answer.
	Try uint32 `json:"try,omitempty"`
	// Idle is how long a request or connection may go without a byte in either direction.
	Idle uint32 `json:"idle,omitempty"`
}

// Retries say which requests are sent again because of their answer.
type Retries struct {
	// Attempts is how often one request is sent again.
	Attempts uint32 `json:"attempts"`
	// Codes of answers, Methods of requests.
	Codes   []uint32 `json:"codes,omitempty"`
	Methods []string `json:"methods,omitempty"`
	// GRPCCodes are numbers of gRPC's statuses.
	GRPCCodes []uint32 `json:"grpcCodes,omitempty"`
	// Percent of the requests of Interval, in milliseconds, may be retries.
	Percent  uint32 `json:"percent"`
	Interval uint32 `json:"interval"`
	// MinCount retries there may be in MinInterval, in milliseconds, whatever the percentage.
	MinCount    uint32 `json:"minCount"`
	MinInterval uint32 `json:"minInterval"`
}

// OutlierEjection says when an endpoint is left out, and for how long.
type OutlierEjection struct {
	// ConsecutiveFailures in a row leave an endpoint out; 0 is never.
	ConsecutiveFailures uint32 `json:"consecutiveFailures,omitempty"`
	// Interval in which requests are counted, in milliseconds, at least one.
	Interval uint32 `json:"interval"`
	// MinRequests in the interval, at MinEndpoints of one revision, have these compared; 0 requests is never.
	MinRequests  uint32 `json:"minRequests,omitempty"`
	MinEndpoints uint32 `json:"minEndpoints,omitempty"`
	// BaseTime times how often it has been left out of late, up to MaxTime, is how long an endpoint is, in
	// milliseconds.
	BaseTime uint32 `json:"baseTime"`
	MaxTime  uint32 `json:"maxTime"`
	// MaxPercent of the endpoints may be left out at once.
	MaxPercent uint32 `json:"maxPercent"`
}

// Equal says whether two policies, of which nil is none, are the same.
func (o *OutlierEjection) Equal(other *OutlierEjection) bool {
	if o == nil || other == nil {
		return o == other
	}
	return *o == *other
}

// Equal says whether two policies of retries, of which nil is none, are the same.
func (r *Retries) Equal(other *Retries) bool {
	if r == nil || other == nil {
		return r == other
	}
	return r.Attempts == other.Attempts && slices.Equal(r.Codes, other.Codes) && slices.Equal(r.Methods, other.Methods) &&
		slices.Equal(r.GRPCCodes, other.GRPCCodes) && r.Percent == other.Percent && r.Interval == other.Interval &&
		r.MinCount == other.MinCount && r.MinInterval == other.MinInterval
}

// Service names a Service port.
type Service struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	Port      uint16 `json:"port,omitempty"`
}

// Endpoint is one pod that can answer.
type Endpoint struct {
	// Address is "ip:port"; among an Inbound's peers the port is 0.
	Address string `json:"address"`
	// Identity is the SPIFFE ID that the peer must present; empty when the pod is not meshed.
	Identity  string `json:"identity,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	// Workload is "namespace/name"; empty when the pod has none.
	Workload        string `json:"workload,omitempty"`
	PodTemplateHash string `json:"podTemplateHash,omitempty"`
	// Ready is false while the pod terminates: such endpoints serve only when nothing else is ready.
	Ready bool `json:"ready"`
	// Hints say for whose callers it is meant before others. All ready endpoints of a destination have them,
	// or none has.
	Hints Hints `json:"hints,omitzero"`
}

// Split shares requests to a workload between its revisions.
type Split struct {
	// Workload is "namespace/name".
	Workload string `json:"workload"`
	// Generation is that of the TrafficSplit.
	Generation int64            `json:"generation"`
	Revisions  []RevisionWeight `json:"revisions"`
	// Matches: requests that match any of these go to the canary whatever the weights.
	Matches []RequestMatch `json:"matches,omitempty"`
	// Mirror has requests to other revisions copied to the canary.
	Mirror *Mirror `json:"mirror,omitempty"`
	// Stickiness keeps a user at one revision.
	Stickiness *Stickiness `json:"stickiness,omitempty"`
}

// Mirror says which requests are copied.
type Mirror struct {
	Percent uint32 `json:"percent"`
	// AllowUnsafe: also those whose method may change something.
	AllowUnsafe bool `json:"allowUnsafe,omitempty"`
}

// Stickiness says by what users are told apart: a header or a cookie.
type Stickiness struct {
	Header string `json:"header,omitempty"`
	Cookie string `json:"cookie,omitempty"`
	// CookieMaxAge in seconds.
	CookieMaxAge int64 `json:"cookieMaxAge,omitempty"`
}

// RevisionWeight is the share of one revision: its weight out of the sum of all.
type RevisionWeight struct {
	Name            string `json:"name"`
	PodTemplateHash string `json:"podTemplateHash"`
	Weight          uint32 `json:"weight"`
}

// Inbound is what a proxy needs to serve its own pod.
type Inbound struct {
	// Workload is "namespace/name" of the pod's workload.
	Workload        string `json:"workload,omitempty"`
	PodTemplateHash string `json:"podTemplateHash,omitempty"`
	// Location is where the pod runs.
	Location Location `json:"location,omitzero"`
	// Split is set while the workload has one.
	Split *Split `json:"split,omitempty"`
	// Peers are the workload's other meshed pods.
	Peers []Endpoint `json:"peers,omitempty"`
	// Protocols of the pod's ports, where they are known.
	Protocols map[uint16]Protocol `json:"protocols,omitempty"`
	// HTTP2Ports are those that were declared to speak HTTP/2, in order.
	HTTP2Ports []uint16 `json:"http2Ports,omitempty"`
	// Access says who may call the pod; nil means everybody.
	Access *Access `json:"access,omitempty"`
	// Overloads bound what is open at the application; each port is one's.
	Overloads []Overload `json:"overloads,omitempty"`
}
