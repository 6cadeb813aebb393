// SPDX-License-Identifier: Apache-2.0

package mesh

import "time"

// RateLimit is how often each client may ask one pod: one request per Interval over time, and Burst at once.
type RateLimit struct {
	Name string `json:"name"`
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
