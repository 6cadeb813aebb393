// SPDX-License-Identifier: Apache-2.0

package simulation

import "math"

// Scenario is a service, a canary and what happens to them. Times are seconds since the first step.
type Scenario struct {
	Name string
	// Good: the canary is no worse than stable, so a rollback is false. Else a promotion is a miss.
	Good bool
	// Requests per second of the whole service, and stable's share of errors.
	Requests, Errors float64
	// Shape of the latencies.
	Shape Shape

	// What is wrong with the canary, in force from Onset on and from the weight OnsetWeight on: errors
	// are added, latencies multiplied, and a share of requests stalls for 0.6 to 1.5 s.
	AddErrors, Slower, Stall float64
	Onset, OnsetWeight       float64

	// What happens to both revisions. Drift moves the logs of errors and latencies of both slowly.
	// An outage of 60 s adds Outage to the share of errors and doubles latencies at a random time; pods differ by
	// PodSpread from each other (errors) and a third of it (latencies); errors come in Clusters of so many.
	Drift     bool
	Outage    float64
	PodSpread float64
	Clusters  int
	// PodBlip: one canary pod fails this share for 10 s. ColdStart: the canary begins three times as slow.
	// MetricsAway: Prometheus neither scrapes nor answers for 90 s.
	PodBlip                float64
	ColdStart, MetricsAway bool

	// Research is what analysis found for the gate with server-side counters before it was built.
	Research Expected
}

// Shares of errors that the tables add in an outage and when a pod fails.
const (
	UsualOutage  = 0.05
	UsualPodBlip = 0.2
)

// Shape of latencies: log-normal with a median in seconds and the standard deviation of the logarithm.
// With a HeavyTail that is 0.5, and 2 % have a Pareto tail that begins at 2.5 medians and has an
// exponent of 1.5.
type Shape struct {
	Median, Sigma float64
	HeavyTail     bool
}

// usualShape has a 99th percentile of 306 ms.
func usualShape() Shape { return Shape{Median: 0.060, Sigma: 0.7003} }

// Expected is a cell of a table: the share of wrong decisions in percent, seconds to the right one,
// and bad requests until the decision. NaN is none.
type Expected struct{ Wrong, Median, P95, Bad float64 }

// byLatency: the canary's fault shows in latencies, so slow requests are the bad ones.
func (s Scenario) byLatency() bool { return s.Slower > 0 || s.Stall > 0 }

func good(name string, requests, errors, wrong, promoted float64) Scenario {
	none := math.NaN()
	return Scenario{Name: name, Good: true, Requests: requests, Errors: errors, Shape: usualShape(), Research: Expected{wrong, promoted, none, none}}
}

func bad(name string, requests, errors float64, research Expected) Scenario {
	return Scenario{Name: name, Requests: requests, Errors: errors, Shape: usualShape(), Research: research}
}

func (s Scenario) with(change func(*Scenario)) Scenario {
	change(&s)
	return s
}

// GoodCanaries are the rows of the first table.
func GoodCanaries() []Scenario {
	unknown := math.NaN()
	return []Scenario{
		good("stable 0.1 % 0.5 req/s", 0.5, 0.001, 0, 2595),
		good("stable 0.1 % 5 req/s", 5, 0.001, 0, 540),
		good("stable 0.1 % 50 req/s", 50, 0.001, 0, 240),
		good("stable 0.1 % 500 req/s", 500, 0.001, 0, 240),
		good("stable 1 % 5 req/s", 5, 0.01, 0, 995),
		good("stable 1 % 50 req/s", 50, 0.01, 0, 240),
		good("stable 1 % 500 req/s", 500, 0.01, 0, 240),
		good("idle 0 req/s", 0, 0.001, 0, 3600),
		good("idle 0.1 req/s", 0.1, 0.001, 0, 3180),
		good("drift of both 50 req/s", 50, 0.001, 0, 240).with(func(s *Scenario) { s.Drift = true }),
		good("outage of both 60 s 50 req/s", 50, 0.001, 0.3, 270).with(func(s *Scenario) { s.Outage = UsualOutage }),
		good("outage of both 60 s 500 req/s", 500, 0.001, 3.4, 265).with(func(s *Scenario) { s.Outage = UsualOutage }),
		good("half of both fails 60 s 50 req/s", 50, 0.001, unknown, unknown).with(func(s *Scenario) { s.Outage = 0.5 }),
		good("half of both fails 60 s 500 req/s", 500, 0.001, unknown, unknown).with(func(s *Scenario) { s.Outage = 0.5 }),
		good("pod spread 500 req/s", 500, 0.001, 0.7, 240).with(func(s *Scenario) { s.PodSpread = 0.3 }),
		good("error clusters of 5 50 req/s", 50, 0.001, 0, 390).with(func(s *Scenario) { s.Clusters = 5 }),
		good("canary pod blip 10 s 50 req/s", 50, 0.001, 0.9, 240).with(func(s *Scenario) { s.PodBlip = UsualPodBlip }),
		good("cold start 500 req/s", 500, 0.001, 0, 240).with(func(s *Scenario) { s.ColdStart = true }),
		good("Prometheus down 90 s 0.5 req/s", 0.5, 0.001, 0, 2595).with(func(s *Scenario) { s.MetricsAway = true }),
		good("Prometheus down 90 s 50 req/s", 50, 0.001, 0, 330).with(func(s *Scenario) { s.MetricsAway = true }),
	}
}

// Regressions are the rows of the second table.
func Regressions() []Scenario {
	var rows []Scenario
	add := func(s Scenario, change func(*Scenario)) { rows = append(rows, s.with(change)) }
	errors := func(percent float64) func(*Scenario) { return func(s *Scenario) { s.AddErrors = percent / 100 } }
	slower := func(factor float64) func(*Scenario) { return func(s *Scenario) { s.Slower = factor } }
	stall := func(s *Scenario) { s.Stall = 0.015 }
	none := math.NaN()

	add(bad("stable 0.1 % 0.5 req/s, +5pp", 0.5, 0.001, Expected{7, 2145, 2835, 8}), errors(5))
	add(bad("stable 0.1 % 0.5 req/s, +50pp", 0.5, 0.001, Expected{0, 240, 595, 3}), errors(50))
	add(bad("stable 0.1 % 5 req/s, +1pp", 5, 0.001, Expected{25, 1305, 2010, 18}), errors(1))
	add(bad("stable 0.1 % 5 req/s, +5pp", 5, 0.001, Expected{0, 395, 705, 6}), errors(5))
	add(bad("stable 0.1 % 5 req/s, +50pp", 5, 0.001, Expected{0, 40, 75, 6}), errors(50))
	add(bad("stable 0.1 % 50 req/s, +1pp", 50, 0.001, Expected{0, 225, 345, 21}), errors(1))
	add(bad("stable 0.1 % 50 req/s, +5pp", 50, 0.001, Expected{0, 60, 105, 9}), errors(5))
	add(bad("stable 0.1 % 50 req/s, +50pp", 50, 0.001, Expected{0, 20, 30, 26}), errors(50))
	add(bad("stable 0.1 % 500 req/s, +0.2pp", 500, 0.001, Expected{98, 360, 705, 85}), errors(0.2))
	add(bad("stable 0.1 % 500 req/s, +1pp", 500, 0.001, Expected{0, 75, 120, 23}), errors(1))
	add(bad("stable 0.1 % 500 req/s, +5pp", 500, 0.001, Expected{0, 25, 35, 34}), errors(5))
	add(bad("stable 0.1 % 500 req/s, +50pp", 500, 0.001, Expected{0, 20, 30, 240}), errors(50))
	add(bad("stable 1 % 5 req/s, +5pp", 5, 0.01, Expected{0, 525, 910, 9}), errors(5))
	add(bad("stable 1 % 50 req/s, +0.2pp", 50, 0.01, Expected{98, 455, 830, 51}), errors(0.2))
	add(bad("stable 1 % 50 req/s, +1pp", 50, 0.01, Expected{0, 270, 390, 52}), errors(1))
	add(bad("stable 1 % 50 req/s, +5pp", 50, 0.01, Expected{0, 75, 125, 13}), errors(5))
	add(bad("stable 1 % 500 req/s, +1pp", 500, 0.01, Expected{0, 90, 145, 59}), errors(1))

	add(bad("latency 5 req/s, +50 %", 5, 0.001, Expected{6, 840, 1335, 6}), slower(1.5))
	add(bad("latency 5 req/s, tail x3", 5, 0.001, Expected{6, 1160, 1845, 17}), stall)
	add(bad("latency 50 req/s, +10 %", 50, 0.001, Expected{100, none, none, 5}), slower(1.1))
	add(bad("latency 50 req/s, +50 %", 50, 0.001, Expected{0, 165, 215, 6}), slower(1.5))
	add(bad("latency 50 req/s, tail x3", 50, 0.001, Expected{0, 180, 260, 18}), stall)
	add(bad("latency 500 req/s, +10 %", 500, 0.001, Expected{100, none, none, 52}), slower(1.1))
	add(bad("latency 500 req/s, +50 %", 500, 0.001, Expected{0, 60, 80, 12}), slower(1.5))
	add(bad("latency 500 req/s, tail x3", 500, 0.001, Expected{0, 75, 100, 33}), stall)
	heavy := func(change func(*Scenario)) func(*Scenario) {
		return func(s *Scenario) { s.Shape.HeavyTail = true; change(s) }
	}
	add(bad("latency heavy tail 50 req/s, +50 %", 50, 0.001, Expected{0, 150, 195, 6}), heavy(slower(1.5)))
	add(bad("latency heavy tail 50 req/s, tail x3", 50, 0.001, Expected{0, 260, 390, 41}), heavy(stall))

	add(bad("late: from weight 25 on +5pp 50 req/s", 50, 0.001, Expected{0, 160, 175, 26}), func(s *Scenario) { s.AddErrors, s.OnsetWeight = 0.05, 25 })
	add(bad("late: from 150 s on +5pp 5 req/s", 5, 0.001, Expected{0, 420, 680, 7}), func(s *Scenario) { s.AddErrors, s.Onset = 0.05, 150 })
	add(bad("late: from 150 s on +5pp 50 req/s", 50, 0.001, Expected{0, 195, 210, 33}), func(s *Scenario) { s.AddErrors, s.Onset = 0.05, 150 })
	add(bad("drift of both, canary +2pp 50 req/s", 50, 0.001, Expected{2, 180, 325, 24}), func(s *Scenario) { s.AddErrors, s.Drift = 0.02, true })
	add(bad("idle 0.1 req/s, +50pp", 0.1, 0.001, Expected{0, 1005, 1845, 3}), errors(50))
	return rows
}
