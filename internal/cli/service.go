// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/analysis/simulation"
)

// serviceOptions model a service.
type serviceOptions struct {
	requests, errors float64
	median, p99      time.Duration
	heavyTail        bool
	disturbances     []string
	p99Given         func() bool
}

func (o *serviceOptions) bind(flags *pflag.FlagSet) {
	flags.Float64Var(&o.requests, "requests", 50, "requests per second to both revisions together, 0 to 100000")
	flags.Float64Var(&o.errors, "errors", 0.1, "percent of stable's requests that fail, 0 to 100")
	flags.DurationVar(&o.median, "latency-median", 60*time.Millisecond, "median of stable's latencies")
	flags.DurationVar(&o.p99, "latency-p99", 306*time.Millisecond, "99th percentile of stable's latencies, which are log-normal")
	flags.BoolVar(&o.heavyTail, "heavy-tail", false, "give 2 % of the latencies a Pareto tail, instead of --latency-p99")
	flags.StringSliceVar(&o.disturbances, "disturbance", nil,
		"what happens to a good canary as well: "+strings.Join(disturbances(), ", ")+"; may be repeated")
	o.p99Given = func() bool { return flags.Changed("latency-p99") }
}

// disturbances that a service may suffer.
func disturbances() []string {
	return []string{"drift", "outage", "pod-spread", "error-clusters", "pod-blip", "cold-start", "metrics-away"}
}

// service is what the flags describe.
func (o *serviceOptions) service() (simulation.Scenario, error) {
	s := simulation.Scenario{Requests: o.requests, Errors: o.errors / 100}
	switch {
	case !(o.requests >= 0 && o.requests <= 100_000):
		return s, fmt.Errorf("--requests %v: write a rate from 0 to 100000 per second", o.requests)
	case !(o.errors >= 0 && o.errors <= 100):
		return s, fmt.Errorf("--errors %v: write a percentage from 0 to 100", o.errors)
	case o.median < 100*time.Microsecond || o.median > time.Minute:
		return s, fmt.Errorf("--latency-median %v: write a duration from 100us to 1m", o.median)
	case o.heavyTail && o.p99Given():
		return s, fmt.Errorf("--latency-p99 %v: the tail of --heavy-tail follows from the median; leave one of them out", o.p99)
	case o.p99 <= o.median && !o.heavyTail:
		return s, fmt.Errorf("--latency-p99 %v: write a duration above --latency-median %v", o.p99, o.median)
	}
	const normal99 = 2.3263
	s.Shape = simulation.Shape{Median: o.median.Seconds(), HeavyTail: o.heavyTail}
	s.Shape.Sigma = math.Log(float64(o.p99)/float64(o.median)) / normal99
	for _, name := range o.disturbances {
		if !slices.Contains(disturbances(), name) {
			return s, fmt.Errorf("--disturbance %s: write %s", name, strings.Join(disturbances(), ", "))
		}
	}
	o.disturb(&s)
	return s, nil
}

// disturb has happen to a service what flags ask for.
func (o *serviceOptions) disturb(s *simulation.Scenario) {
	has := func(name string) bool { return slices.Contains(o.disturbances, name) }
	s.Drift, s.ColdStart, s.MetricsAway = has("drift"), has("cold-start"), has("metrics-away")
	if has("outage") {
		s.Outage = simulation.UsualOutage
	}
	if has("pod-blip") {
		s.PodBlip = simulation.UsualPodBlip
	}
	if has("pod-spread") {
		s.PodSpread = 0.3
	}
	if has("error-clusters") {
		s.Clusters = 5
	}
}

// broken says which objectives stable does not reach itself.
func (o *serviceOptions) broken(objectives analysis.Objectives) (notes []string) {
	const consequence = "; such a service is not promoted"
	if left := 100 - objectives.SuccessRate; o.errors > left {
		notes = append(notes, fmt.Sprintf("stable itself breaks the objective: %v %% of its requests fail, %.4g %% may%s", o.errors, left, consequence))
	}
	if edge := analysis.LatencyEdge(objectives.LatencyLimit); !o.heavyTail && o.p99 > edge {
		notes = append(notes, fmt.Sprintf("stable itself breaks the objective: its 99th percentile is %v, %v is judged%s", o.p99, edge, consequence))
	}
	return notes
}

// describe the service in words.
func (o *serviceOptions) describe() string {
	shape := fmt.Sprintf("latencies with a median of %v and a 99th percentile of %v", o.median, o.p99)
	if o.heavyTail {
		shape = fmt.Sprintf("latencies with a median of %v and a heavy tail", o.median)
	}
	text := fmt.Sprintf("%s requests/s, %s %% errors, %s",
		strconv.FormatFloat(o.requests, 'f', -1, 64), strconv.FormatFloat(o.errors, 'f', -1, 64), shape)
	if len(o.disturbances) > 0 {
		text += "; with " + strings.Join(o.disturbances, ", ")
	}
	return text
}
