// SPDX-License-Identifier: Apache-2.0

// Package simulation plays a workload with known faults to the gate that ships, and to the rules of
// other rollout tools, and counts how often and how soon each decides rightly.
//
// It must not read a clock or a network: everything comes from a seed. Nothing that ships decides by it.
package simulation

import (
	"math"
	"slices"
	"time"

	"github.com/sluice-mesh/sluice/analysis"
)

const (
	stablePods = 4
	canaryPods = 2
	// history is how long before the run the world begins, in seconds.
	history = 900
	// never is after every run's end.
	never = math.MaxFloat64
	// maximumEdges of a histogram: client_golang's and an objective's.
	maximumEdges = 12
	// tick is how often what moves slowly moves, in seconds.
	tick = 5
)

// edges of a latency histogram, in seconds: client_golang's defaults.
func histogramEdges() []float64 {
	return []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
}

// Vantage says who counts and how often that is read.
type Vantage struct {
	// Scrape interval in seconds.
	Scrape float64
	// Callers is how many proxies of callers count, each seeing both revisions at once; with 0 the
	// pods count themselves.
	Callers int
}

// tally is what one counter set has counted so far.
type tally struct {
	requests, errors int
	over             [maximumEdges]int
}

type sample struct {
	at float64
	tally
}

// meter counts the requests to one pod at one place that is scraped.
type meter struct {
	pod, scraper int
	drawn        float64
	total        tally
	samples      []sample
	// what is drawn from until something changes
	rate, errors float64
	over         []float64
}

type pod struct {
	canary               bool
	moreErrors, slowness float64 // factors by which it differs from the others
}

// world is one service over one run.
type world struct {
	scenario Scenario
	vantage  Vantage
	random   Sampler
	edges    []float64
	limit    float64 // over which responses are slow
	pods     []pod
	meters   []meter
	next     []float64 // scrape by scraper
	now      float64
	weight   float64 // of the canary, 0 to 1
	// reported: samples come from the pods themselves, also while Prometheus is away.
	reported bool
	// keep all samples, for rules that look back.
	keep bool
	// drift of the logs of errors and latencies, and when it moves next.
	driftErrors, driftLatency float64
	// outage, blip and absence of metrics begin at these times.
	outage, blip, away float64
	knots              []float64
	scraped            func(scraper int, at float64)
	// shifts are when weights were set.
	shifts []float64
}

func newWorld(scenario Scenario, vantage Vantage, seed uint64, edges []float64, limit time.Duration) *world {
	w := &world{
		scenario: scenario, vantage: vantage, random: NewSampler(seed, 17), edges: edges, limit: limit.Seconds(),
		now: -history, outage: never, blip: never, away: never,
	}
	for i := range stablePods + canaryPods {
		spread := scenario.PodSpread
		w.pods = append(w.pods, pod{
			canary:     i < canaryPods,
			moreErrors: math.Exp(spread * w.random.NormFloat64()), slowness: math.Exp(spread / 3 * w.random.NormFloat64()),
		})
	}
	scrapers := len(w.pods)
	if vantage.Callers > 0 {
		scrapers = vantage.Callers
	}
	for scraper := range scrapers {
		w.next = append(w.next, w.now+vantage.Scrape*w.random.Float64())
		for i := range w.pods {
			if vantage.Callers > 0 || i == scraper {
				w.meters = append(w.meters, meter{pod: i, scraper: scraper, drawn: w.now, over: make([]float64, len(edges))})
			}
		}
	}
	w.happen()
	w.tune()
	return w
}

// happen draws when things happen, and lists the times at which rates change.
func (w *world) happen() {
	at := func(happens bool, latest, lasts float64) float64 {
		begin := 15 + (latest-15)*w.random.Float64()
		if !happens {
			return never
		}
		w.knots = append(w.knots, begin, begin+lasts)
		return begin
	}
	w.outage = at(w.scenario.Outage > 0, 165, 60)
	w.blip = at(w.scenario.PodBlip > 0, 185, 10)
	w.away = at(w.scenario.MetricsAway, 165, 90)
	w.knots = append(w.knots, 0)
	if w.scenario.Onset > 0 {
		w.knots = append(w.knots, w.scenario.Onset)
	}
}

// moving: rates change at every tick.
func (w *world) moving() bool {
	return w.scenario.Drift || (w.scenario.ColdStart && w.now >= 0 && w.now < 120)
}

func (w *world) down(at float64) bool { return at >= w.away && at < w.away+90 }

// shift sets the canary's weight from now on.
func (w *world) shift(weight float64) {
	w.drawAll()
	w.weight = weight
	w.shifts = append(w.shifts, w.now)
	w.tune()
}

// advance lets time pass.
func (w *world) advance(to float64) {
	for w.now < to {
		at := to
		for _, next := range w.next {
			at = math.Min(at, next)
		}
		for _, knot := range w.knots {
			if knot > w.now {
				at = math.Min(at, knot)
			}
		}
		if moves := (math.Floor(w.now/tick) + 1) * tick; w.moving() {
			at = math.Min(at, moves)
		}
		w.now = at
		w.pass()
	}
}

// pass does what is due now.
func (w *world) pass() {
	changes := slices.Contains(w.knots, w.now)
	if w.moving() && w.now == math.Floor(w.now/tick)*tick {
		changes = true
		w.drift()
	}
	if changes {
		w.drawAll()
		w.tune()
	}
	for scraper := range w.next {
		if w.next[scraper] > w.now {
			continue
		}
		w.next[scraper] += w.vantage.Scrape
		if w.reported || !w.down(w.now) {
			w.scrape(scraper)
		}
	}
}

// scrape takes a sample of all that is counted at one place.
func (w *world) scrape(scraper int) {
	for i := range w.meters {
		m := &w.meters[i]
		if m.scraper != scraper || (w.now < 0 && w.pods[m.pod].canary) {
			continue
		}
		w.draw(m)
		if !w.keep {
			m.samples = m.samples[:0]
		}
		m.samples = append(m.samples, sample{w.now, m.total})
	}
	if w.scraped != nil {
		w.scraped(scraper, w.now)
	}
}

// drift moves what both revisions share, with a memory of a minute.
func (w *world) drift() {
	if !w.scenario.Drift {
		return
	}
	memory := math.Exp(-tick / 60.0)
	fresh := math.Sqrt(1 - memory*memory)
	w.driftErrors = memory*w.driftErrors + 0.7*fresh*w.random.NormFloat64()
	w.driftLatency = memory*w.driftLatency + 0.25*fresh*w.random.NormFloat64()
}

func (w *world) drawAll() {
	for i := range w.meters {
		w.draw(&w.meters[i])
	}
}

// draw what a meter counted since it was drawn from last.
func (w *world) draw(m *meter) {
	length := w.now - m.drawn
	m.drawn = w.now
	n := w.random.Poisson(m.rate * length)
	if n == 0 {
		return
	}
	m.total.requests += n
	if size := w.scenario.Clusters; size > 1 {
		m.total.errors += min(n, size*w.random.Poisson(float64(n)*m.errors/float64(size)))
	} else {
		m.total.errors += w.random.Binomial(n, m.errors)
	}
	left, before := n, 1.0
	for i, share := range m.over {
		if left == 0 || before <= 0 {
			break
		}
		left = w.random.Binomial(left, math.Min(1, share/before))
		before = share
		m.total.over[i] += left
	}
}

// tune works out the rates that are in force from now on.
func (w *world) tune() {
	places := float64(max(1, w.vantage.Callers))
	for i := range w.meters {
		m := &w.meters[i]
		share := (1 - w.weight) / stablePods
		if w.pods[m.pod].canary {
			share = w.weight / canaryPods
		}
		m.rate = w.scenario.Requests * share / places
		var shape latency
		m.errors, shape = w.condition(m.pod)
		for j, edge := range w.edges {
			m.over[j] = shape.over(edge)
		}
	}
}

// condition of a pod: its share of errors and its latencies.
func (w *world) condition(index int) (float64, latency) {
	s, p := w.scenario, w.pods[index]
	errors := s.Errors * math.Exp(w.driftErrors) * p.moreErrors
	shape := latency{Shape: s.Shape, slowness: math.Exp(w.driftLatency) * p.slowness}
	if p.canary && w.now >= s.Onset && 100*w.weight >= s.OnsetWeight-1e-9 {
		errors += s.AddErrors
		shape.stall = s.Stall
		if s.Slower > 0 {
			shape.slowness *= s.Slower
		}
	}
	if w.now >= w.outage && w.now < w.outage+60 {
		errors += s.Outage
		shape.slowness *= 2
	}
	if index == 0 && w.now >= w.blip && w.now < w.blip+10 {
		errors += s.PodBlip
	}
	if s.ColdStart && p.canary && w.now >= 0 {
		shape.slowness *= 1 + 2*math.Exp(-w.now/10)
	}
	return math.Min(errors, 1), shape
}

// harm is how many of the canary's requests were bad by now.
func (w *world) harm() float64 {
	w.drawAll()
	bad := 0
	for _, m := range w.meters {
		if !w.pods[m.pod].canary {
			continue
		}
		if w.scenario.byLatency() {
			bad += m.total.over[w.edge(w.limit)]
		}
		if w.scenario.AddErrors > 0 || !w.scenario.byLatency() {
			bad += m.total.errors
		}
	}
	return float64(bad)
}

// edge finds the index of an edge, or of the last one.
func (w *world) edge(seconds float64) int {
	for i, edge := range w.edges {
		if edge == seconds {
			return i
		}
	}
	return len(w.edges) - 1
}

// latency is a distribution.
type latency struct {
	Shape
	slowness, stall float64
}

// over is the share that takes longer than so many seconds.
func (l latency) over(seconds float64) float64 {
	scaled := seconds / l.slowness
	share := logNormal(scaled, l.Median, l.Sigma)
	if l.HeavyTail {
		const part, from, exponent, narrow = 0.02, 2.5, 1.5, 0.5
		share = (1-part)*logNormal(scaled, l.Median, narrow) + part*math.Min(1, math.Pow(from*l.Median/scaled, exponent))
	}
	stalled := math.Max(0, math.Min(1, (1.5-seconds)/0.9))
	return (1-l.stall)*share + l.stall*stalled
}

// logNormal is the share of a log-normal distribution over a value.
func logNormal(value, median, sigma float64) float64 {
	return 0.5 * math.Erfc(math.Log(value/median)/sigma/math.Sqrt2)
}

// gateEdges are those of a histogram at which the gate reads latencies: two that it picks and the
// objective's.
func gateEdges(s Scenario, histogram []float64, limit time.Duration) []float64 {
	var shares []analysis.EdgeShare
	for _, edge := range histogram {
		shares = append(shares, analysis.EdgeShare{Edge: seconds(edge), Share: latency{Shape: s.Shape, slowness: 1}.over(edge)})
	}
	picked := analysis.Edges(shares, limit)
	edges := []float64{}
	for _, edge := range []time.Duration{picked[0], picked[1], limit} {
		if edge > 0 {
			edges = append(edges, edge.Seconds())
		}
	}
	slices.Sort(edges)
	return edges
}

func seconds(value float64) time.Duration {
	return time.Duration(math.Round(value * float64(time.Second)))
}
