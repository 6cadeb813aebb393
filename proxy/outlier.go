// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/sluice-mesh/sluice/mesh"
)

const (
	// outlierDeviations is how many standard deviations below the average of its revision an endpoint's
	// success rate is an outlier. Of n endpoints none can be more than the root of n-1 away: of five, from
	// which on they are compared, two.
	outlierDeviations = 1.9
	// outlierErrors is how many standard errors of its own requests it must be below as well: where all fail
	// now and then, some must be the last.
	outlierErrors = 3
	// outlierLeast is how far below it must be at least: endpoints that are all but perfect hardly differ,
	// and the one that does is no outlier for it.
	outlierLeast = 0.05
	// ejectionJitter is the share of its time by which an ejection may be longer, so that the proxies that
	// began it together do not end it together.
	ejectionJitter = 0.25
)

// answers are how many requests an endpoint has had, and how many of them failed.
type answers struct{ requests, failures uint32 }

func (a answers) rate() float64 { return 1 - float64(a.failures)/float64(a.requests) }

// outliers are the places of those endpoints of one revision that fail more often than the others. It is pure.
func outliers(all []answers, policy *mesh.OutlierEjection) (places []int) {
	var count, sum, squares float64
	compared := func(a answers) bool { return policy.MinRequests > 0 && a.requests >= policy.MinRequests }
	for _, one := range all {
		if compared(one) {
			count++
			sum += one.rate()
		}
	}
	if count == 0 || count < float64(policy.MinEndpoints) {
		return nil
	}
	mean := sum / count
	for _, one := range all {
		if compared(one) {
			squares += (one.rate() - mean) * (one.rate() - mean)
		}
	}
	deviation := math.Sqrt(squares / count)
	for place, one := range all {
		if !compared(one) {
			continue
		}
		byChance := math.Sqrt(mean * (1 - mean) / float64(one.requests))
		if mean-one.rate() > max(outlierDeviations*deviation, outlierErrors*byChance, outlierLeast) {
			places = append(places, place)
		}
	}
	return places
}

// mostEjected is how many of some endpoints may be left out at once: one even where the percentage is less,
// but never the last.
func mostEjected(endpoints int, percent uint32) int {
	return min(max(endpoints*int(percent)/100, 1), endpoints-1)
}

// ejectionTime is how long an endpoint is left out that is for the nth time of late; chance is in [0, 1).
func ejectionTime(policy *mesh.OutlierEjection, nth int, chance float64) time.Duration {
	plain := min(uint64(policy.BaseTime)*uint64(max(nth, 1)), uint64(max(policy.MaxTime, policy.BaseTime))) //nolint:gosec // At least one.
	return time.Duration(float64(plain) * (1 + ejectionJitter*chance) * float64(time.Millisecond))
}

// ejectionReason says why an endpoint is left out.
type ejectionReason string

const (
	ejectedInRow  ejectionReason = "consecutive_failures"
	ejectedByRate ejectionReason = "success_rate"
)

// What became of endpoints that were to be left out.
const (
	ejectionMade   = "ejected"
	ejectionCapped = "capped" // As many were as may be.
)

// judge leaves out those that are to be. It is told when endpoints are chosen, not when requests end: who is
// not asked for leaves nobody out.
func (e *ejections) judge(now time.Time, of []tier, policy *mesh.OutlierEjection) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	all, byRevision, out := 0, map[revision][]*conduct{}, 0
	for _, part := range of {
		for i, one := range part.conducts {
			all++
			if one.isOut(now) {
				out++
			}
			key := revisionOf(part.endpoints[i])
			byRevision[key] = append(byRevision[key], one)
		}
	}
	left := mostEjected(all, policy.MaxPercent) - out
	eject := func(one *conduct, reason ejectionReason) {
		if one.isOut(now) {
			return
		}
		outcome := ejectionCapped
		if left > 0 {
			left--
			outcome = ejectionMade
			one.leaveOut(now, policy, rand.Float64())
			e.tell(one, reason)
		}
		e.metrics.ejection(ejectionLabels{one.service.Namespace, one.service.Name, reason, outcome})
	}
	slot := slotOf(now, policy)
	for _, conducts := range byRevision {
		for _, one := range conducts {
			if one.takeRow(policy) {
				eject(one, ejectedInRow)
			}
		}
		last := make([]answers, len(conducts))
		for i, one := range conducts {
			last[i] = one.whole(now, slot)
		}
		for _, place := range outliers(last, policy) {
			eject(conducts[place], ejectedByRate)
		}
	}
}
