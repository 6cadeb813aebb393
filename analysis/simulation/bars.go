// SPDX-License-Identifier: Apache-2.0

package simulation

import "math"

// Metric is a column of a cell.
type Metric string

// Metrics.
const (
	MetricWrong  Metric = "wrong decisions" // percent
	MetricMedian Metric = "median time"     // seconds
	MetricP95    Metric = "95th percentile" // seconds
	MetricBad    Metric = "bad requests"
)

func (m Metric) unit() string {
	switch m {
	case MetricWrong:
		return "%"
	case MetricMedian, MetricP95:
		return "s"
	case MetricBad:
	}
	return "requests"
}

func (c Cell) metric(metric Metric) Interval {
	switch metric {
	case MetricWrong:
		return c.Wrong
	case MetricMedian:
		return c.Median
	case MetricP95:
		return c.P95
	case MetricBad:
	}
	return c.Bad
}

// Bar is what the gate has to reach in a scenario.
type Bar struct {
	Scenario string
	Rule     string
	Metric   Metric
	Limit    float64
}

// Names of the gate's columns.
const (
	GateServer = "gate"
	GateCaller = "gate, callers' counters"
	GateLive   = "gate, live"
	GateBeside = "gate, live beside"
)

// Bars are what was asked of the gate before it was built, for scrapes every 15 s.
func Bars() []Bar {
	var bars []Bar
	add := func(metric Metric, limit float64, scenarios ...string) {
		for _, scenario := range scenarios {
			bars = append(bars, Bar{scenario, GateServer, metric, limit})
		}
	}
	for _, s := range GoodCanaries() {
		switch {
		case s.Outage > 0:
			add(MetricWrong, 5, s.Name)
			if s.Outage == UsualOutage {
				bars = append(bars, Bar{s.Name, GateCaller, MetricWrong, 1})
			}
		case s.Requests <= 0.1 || s.MetricsAway:
			add(MetricWrong, 0, s.Name)
		default:
			add(MetricWrong, 1.5, s.Name)
		}
	}
	add(MetricMedian, 240, "stable 0.1 % 50 req/s", "stable 0.1 % 500 req/s", "stable 1 % 50 req/s", "stable 1 % 500 req/s")
	add(MetricMedian, 540, "stable 0.1 % 5 req/s")
	add(MetricMedian, 2700, "stable 0.1 % 0.5 req/s")

	add(MetricP95, 30, "stable 0.1 % 50 req/s, +50pp", "stable 0.1 % 500 req/s, +50pp")
	add(MetricP95, 75, "stable 0.1 % 5 req/s, +50pp")
	add(MetricP95, 600, "stable 0.1 % 0.5 req/s, +50pp")
	add(MetricBad, 30, "stable 0.1 % 50 req/s, +50pp")
	add(MetricP95, 105, "stable 0.1 % 50 req/s, +5pp")
	add(MetricBad, 9, "stable 0.1 % 50 req/s, +5pp")
	add(MetricWrong, 0, "stable 0.1 % 5 req/s, +5pp", "stable 0.1 % 50 req/s, +5pp", "stable 0.1 % 500 req/s, +5pp", "stable 1 % 5 req/s, +5pp", "stable 1 % 50 req/s, +5pp")
	add(MetricWrong, 10, "stable 0.1 % 0.5 req/s, +5pp")
	add(MetricWrong, 1, "stable 0.1 % 50 req/s, +1pp", "stable 0.1 % 500 req/s, +1pp", "stable 1 % 50 req/s, +1pp", "stable 1 % 500 req/s, +1pp")
	add(MetricMedian, 225, "stable 0.1 % 50 req/s, +1pp")
	add(MetricMedian, 75, "stable 0.1 % 500 req/s, +1pp")

	// Where proxies' reports replace scrapes, a tenth of what is bad with them: 6, 26 and 240.
	for _, tenth := range []struct {
		scenario string
		limit    float64
	}{{"stable 0.1 % 5 req/s, +50pp", 0.6}, {"stable 0.1 % 50 req/s, +50pp", 2.6}, {"stable 0.1 % 500 req/s, +50pp", 24}} {
		bars = append(bars, Bar{tenth.scenario, GateLive, MetricBad, tenth.limit})
	}

	slow := []string{"latency 50 req/s, +50 %", "latency 50 req/s, tail x3", "latency 500 req/s, +50 %", "latency 500 req/s, tail x3"}
	heavy := []string{"latency heavy tail 50 req/s, +50 %", "latency heavy tail 50 req/s, tail x3"}
	add(MetricWrong, 0, append(slow, heavy...)...)
	add(MetricMedian, 185, slow...)
	add(MetricMedian, 260, heavy...)
	// 45 s after the fault begins: at 120 s with the weight, or at 150 s.
	add(MetricMedian, 165, "late: from weight 25 on +5pp 50 req/s")
	add(MetricMedian, 195, "late: from 150 s on +5pp 50 req/s")
	return bars
}

// Standing of an estimate against a limit that it should not exceed.
type Standing string

// Standings.
const (
	Met    Standing = "met"
	Within Standing = "within the interval"
	Missed Standing = "not met"
)

// Against says how an estimate stands.
func (i Interval) Against(limit float64) Standing {
	switch {
	case math.IsNaN(limit):
		return Met
	case i.Value <= limit:
		return Met
	case i.Low <= limit:
		return Within
	}
	return Missed // also when there is no estimate
}
