// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"slices"
	"strings"
	"time"
)

// RateLimit is how often each client may ask one pod: one request per Interval over time, and Burst at once.
type RateLimit struct {
	Name string     `json:"name"`
	Mode AccessMode `json:"mode"`
	// Ports of the pod that are meant; all when there are none.
	Ports []uint16 `json:"ports,omitempty"`
	// Routes of requests that are meant; all, and all other connections, when there are none.
	Routes []AccessRoute `json:"routes,omitempty"`
	// Interval is in nanoseconds, at least one.
	Interval time.Duration `json:"interval"`
	// Burst is at least one.
	Burst uint32 `json:"burst"`
}

// MostBurst is the largest burst.
const MostBurst = 1_000_000

// Rated is what is kept of one client: when the next request would be due if all came evenly, in nanoseconds
// since some beginning. The zero value is a client that has asked nothing yet.
type Rated int64

// Take counts a request at a time since that same beginning, or says how long a client that asks too
// often has to wait until one would count.
//
// It is the generic cell rate algorithm as virtual scheduling: ITU-T Recommendation I.371 (03/2004), annex A,
// and ATM Forum Traffic Management Specification 4.1 (af-tm-0121.000), section 4.4.2. One number per client
// does what a bucket of Burst tokens does that gets one each Interval.
func (l *RateLimit) Take(kept Rated, now time.Duration) (_ Rated, wait time.Duration, ok bool) {
	due := max(kept, Rated(now))
	tolerance := time.Duration(l.Burst-1) * l.Interval
	if early := time.Duration(due) - now; early > tolerance {
		return kept, early - tolerance, false
	}
	return due + Rated(l.Interval), 0, true
}

// Rested says that a client is as one that has asked nothing yet.
func (r Rated) Rested(now time.Duration) bool { return r <= Rated(now) }

// Means says whether what a client asks for counts.
func (l *RateLimit) Means(asked Asked) bool {
	if len(l.Ports) > 0 && !slices.Contains(l.Ports, asked.Port) {
		return false
	}
	if len(l.Routes) == 0 {
		return true
	}
	if asked.Method == "" {
		return false // No HTTP.
	}
	for i := range l.Routes {
		route := &l.Routes[i]
		if (len(route.Methods) == 0 || slices.Contains(route.Methods, asked.Method)) && route.Path.mayHoldPath(asked.Path) {
			return true
		}
	}
	return false
}

// mayHoldPath says whether a server could read a path as one that is meant. An AccessRule lets in what is
// certain; here who writes a path in another way must not get around a limit.
func (m *ValueMatch) mayHoldPath(path string) bool {
	if m.Kind == "" {
		return true
	}
	if m.Kind != MatchExact && m.Kind != MatchPrefix {
		return false // Of a newer version.
	}
	if !IsPlainPath(path) || strings.Contains(path, "//") || strings.IndexByte(path, ';') >= 0 {
		return true
	}
	if m.Kind == MatchExact {
		rest, found := cutUnescaped(path, m.Value)
		return found && rest == ""
	}
	below, found := cutUnescaped(path, strings.TrimSuffix(m.Value, "/"))
	return found && (below == "" || below[0] == '/')
}

// cutUnescaped is strings.CutPrefix for texts that escape different bytes.
func cutUnescaped(path, prefix string) (rest string, found bool) {
	for prefix != "" {
		if path == "" {
			return "", false
		}
		var one, other byte
		one, path = cutByte(path)
		if other, prefix = cutByte(prefix); one != other {
			return "", false
		}
	}
	return path, true
}

// cutByte cuts the first byte off, or the escape of one.
func cutByte(text string) (first byte, rest string) {
	if text[0] == '%' {
		if high, low := unhex(text, 1), unhex(text, 2); high >= 0 && low >= 0 {
			return byte(high<<4 | low), text[3:]
		}
	}
	return text[0], text[1:]
}

// Equal compares two whole.
func (l *RateLimit) Equal(other *RateLimit) bool {
	return l.Name == other.Name && l.Mode == other.Mode && l.Interval == other.Interval && l.Burst == other.Burst &&
		slices.Equal(l.Ports, other.Ports) && slices.EqualFunc(l.Routes, other.Routes, equalRoutes)
}
