// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"slices"
	"time"
)

// Priority is how dear requests are to who runs their Service.
type Priority string

// Priorities. What is none of them is default.
const (
	PriorityCritical Priority = "critical"
	PriorityDefault  Priority = "default"
	PriorityLow      Priority = "low"
)

// Priorities in the order in which requests are kept.
func Priorities() []Priority { return []Priority{PriorityCritical, PriorityDefault, PriorityLow} }

// Overload bounds what is open at the application of one pod, and how fast it answers some requests.
type Overload struct {
	// Service is the name of the Service that it is for.
	Service string `json:"service"`
	// Ports of the pod that are meant.
	Ports []uint16 `json:"ports,omitempty"`
	// MaxParallelRequests may be open; 0 is any number.
	MaxParallelRequests uint32 `json:"maxParallelRequests,omitempty"`
	// Classes of requests: the first that means a request counts.
	Classes []TrafficClass `json:"classes,omitempty"`
	// Probes of the kubelet are never refused.
	Probes []Probe `json:"probes,omitempty"`
}

// TrafficClass is what some requests have in common.
type TrafficClass struct {
	Priority Priority `json:"priority"`
	// Callers that are meant; nil for all.
	Callers *AccessRule `json:"callers,omitempty"`
	// Routes that are meant; all when there are none.
	Routes []AccessRoute `json:"routes,omitempty"`
	// BytesPerSecond of content that all answers together get; 0 is any number.
	BytesPerSecond uint64 `json:"bytesPerSecond,omitempty"`
}

// Means says whether the requests of a port are meant.
func (o *Overload) Means(port uint16) bool { return slices.Contains(o.Ports, port) }

// IsProbe says whether a request is one of the kubelet's, which no pod of which is overloaded may miss: it
// would be restarted.
func (o *Overload) IsProbe(asked Asked) bool {
	return asked.Method != "" && slices.Contains(o.Probes, Probe(asked))
}

// ClassOf is the place of the class of a request among Classes; -1 for none.
func (o *Overload) ClassOf(from Caller, asked Asked) int {
	return slices.IndexFunc(o.Classes, func(class TrafficClass) bool { return class.means(from, asked) })
}

// means takes a path that servers could read in another way for no critical one and for every other: who
// writes it so shall gain nothing.
func (c *TrafficClass) means(from Caller, asked Asked) bool {
	if c.Callers != nil && !c.Callers.names(from) {
		return false
	}
	if len(c.Routes) == 0 {
		return true
	}
	if c.Priority == PriorityCritical {
		certain := AccessRule{Routes: c.Routes}
		return certain.means(asked)
	}
	possible := RateLimit{Routes: c.Routes}
	return possible.Means(asked)
}

// MostOf is how many requests of all priorities may be open for one of this priority to be let in; 0 is any
// number. Each priority leaves room for those above it: as soon as what they have open fills the rest, no more
// of the lower come in, and these are gone when theirs have ended. That is what "Overload Control for Scaling
// WeChat Microservices" (SoCC 2018) does with priorities, with what is open in place of the time in a queue.
func (o *Overload) MostOf(priority Priority) uint32 {
	if o.MaxParallelRequests == 0 {
		return 0
	}
	percent := uint64(90)
	switch priority {
	case PriorityCritical:
		percent = 100
	case PriorityLow:
		percent = 75
	case PriorityDefault:
	}
	return max(uint32(uint64(o.MaxParallelRequests)*percent/100), 1)
}

// paceBurst is how much may go at once after a while without any, as the time that it takes.
const paceBurst = 100 * time.Millisecond

// Paced is when all that a class has sent is due, in nanoseconds since some beginning.
type Paced int64

// Pace counts bytes that are to be sent at a time since that beginning, and says how long they have to wait. As
// a bucket of tokens does, it lets what has waited go evenly.
func (c *TrafficClass) Pace(kept Paced, now time.Duration, bytes int) (_ Paced, wait time.Duration) {
	if c.BytesPerSecond == 0 {
		return kept, 0
	}
	took := uint64(max(bytes, 0)) * uint64(time.Second) / c.BytesPerSecond
	due := max(kept, Paced(now)) + Paced(took)
	return due, max(time.Duration(due)-now-paceBurst, 0)
}

// Equal compares two whole.
func (o *Overload) Equal(other *Overload) bool {
	return o.Service == other.Service && o.MaxParallelRequests == other.MaxParallelRequests &&
		slices.Equal(o.Ports, other.Ports) && slices.Equal(o.Probes, other.Probes) &&
		slices.EqualFunc(o.Classes, other.Classes, equalClasses)
}

func equalClasses(a, b TrafficClass) bool {
	return a.Priority == b.Priority && a.BytesPerSecond == b.BytesPerSecond && slices.EqualFunc(a.Routes, b.Routes, equalRoutes) &&
		(a.Callers == nil) == (b.Callers == nil) && (a.Callers == nil || equalRules(*a.Callers, *b.Callers))
}
