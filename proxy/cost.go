// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// decayTime is in which what is known of an endpoint has faded to a third (1/e). Without answers it
	// fades towards nothing, so that who was slow, or failed, is tried again.
	decayTime = 10 * time.Second
	// latencyFirst is what an endpoint is taken for before its first answer.
	latencyFirst = 30 * time.Millisecond
	// latencyLeast is what is the same for the balancer: below it, and where nobody has been asked for
	// long, how much is open decides.
	latencyLeast = time.Millisecond
	// failurePenalty is what it costs to be sent to an endpoint that fails each request. One that fails
	// a hundredth of them costs a hundredth of it.
	failurePenalty = 5 * time.Second
	// failingFrom is the share of failures from which an endpoint counts as failing.
	failingFrom = 0.01
)

// tick is a time in milliseconds. It may come round: differences count.
type tick uint32

// estimate is a number that is forgotten over time.
type estimate struct {
	value float32
	since tick
}

// fading is what is left of something after a time. Clocks of two processors may differ by a little.
func fading(since, now tick) float64 {
	elapsed := time.Duration(max(int32(now-since), 0)) * time.Millisecond //nolint:gosec // The difference has a sign.
	return math.Exp(-elapsed.Seconds() / decayTime.Seconds())
}

// at is what is left of an estimate.
func (e estimate) at(now tick) float64 { return float64(e.value) * fading(e.since, now) }

// mean weighs a sample by how long it was waited for.
func (e estimate) mean(now tick, sample float64) estimate {
	left := fading(e.since, now)
	return estimate{value: float32(float64(e.value)*left + sample*(1-left)), since: now}
}

// peak is the mean, but what is above the estimate is believed at once.
func (e estimate) peak(now tick, sample float64) estimate {
	if sample > float64(e.value) {
		return estimate{value: float32(sample), since: now}
	}
	return e.mean(now, sample)
}

// atLeast is only for what is above the estimate.
func (e estimate) atLeast(now tick, sample float64) estimate {
	if sample > float64(e.value) {
		return estimate{value: float32(sample), since: now}
	}
	return e
}

// shared is an estimate that is read and written without a lock.
type shared struct{ word atomic.Uint64 }

func (s *shared) load() estimate {
	word := s.word.Load()
	return estimate{value: math.Float32frombits(uint32(word >> 32)), since: tick(word)} //nolint:gosec // Its halves.
}

func (s *shared) store(e estimate) { s.word.Store(e.packed()) }

func (e estimate) packed() uint64 { return uint64(math.Float32bits(e.value))<<32 | uint64(e.since) }

// update replaces an estimate by what next makes of it.
func (s *shared) update(next func(e estimate, now tick, sample float64) estimate, now tick, sample float64) {
	for {
		before := s.load()
		after := next(before, now, sample)
		if before == after || s.word.CompareAndSwap(before.packed(), after.packed()) {
			return
		}
	}
}

// experience is what requests have met at an endpoint: how long they waited for the head of an answer,
// in seconds, and which share of them failed.
type experience struct {
	began             time.Time
	latency, failures shared
}

func (x *experience) begin(now time.Time) {
	x.began = now
	x.latency.store(estimate{value: float32(latencyFirst.Seconds())})
}

func (x *experience) tick(now time.Time) tick {
	return tick(now.Sub(x.began).Milliseconds()) //nolint:gosec // It comes round.
}

// answered notes the head of an answer. How soon somebody fails says nothing of how soon it would
// answer: it only counts for who is slow.
func (x *experience) answered(now time.Time, waited time.Duration, failed bool) {
	if failed {
		x.waited(now, waited)
		return
	}
	x.latency.update(estimate.peak, x.tick(now), waited.Seconds())
}

// waited notes that nothing had come by then.
func (x *experience) waited(now time.Time, waited time.Duration) {
	x.latency.update(estimate.atLeast, x.tick(now), waited.Seconds())
}

// ended notes what came of a request.
func (x *experience) ended(now time.Time, failed bool) {
	sample := 0.0
	if failed {
		sample = 1
	}
	x.failures.update(estimate.mean, x.tick(now), sample)
}

// expected is how long the next request will wait there.
func (x *experience) expected(now time.Time) time.Duration {
	return max(seconds(x.latency.load().at(x.tick(now))), latencyLeast)
}

// penalty is what failures are held against an endpoint.
func (x *experience) penalty(now time.Time) time.Duration {
	return seconds(x.failures.load().at(x.tick(now)) * failurePenalty.Seconds())
}

// failing says that a share of the requests of late has failed that is no accident.
func (x *experience) failing(now time.Time) bool {
	return x.failures.load().at(x.tick(now)) >= failingFrom
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
