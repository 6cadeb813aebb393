// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Metrics are what the controller counts, for Prometheus. docs/metrics.md describes each. The
// metrics named flagger_ say the same to dashboards and alerts that were made for Flagger.
type Metrics struct {
	phase, phaseStarted, weight, step, verdict *prometheus.GaugeVec
	runs, events, messages                     *prometheus.CounterVec
	duration, looks                            *prometheus.HistogramVec

	flaggerStatus, flaggerWeight, flaggerTotal *prometheus.GaugeVec
	flaggerSuccesses, flaggerFailures          *prometheus.CounterVec
	flaggerDuration                            *prometheus.HistogramVec

	canaries *census
}

// NewMetrics registers all metrics.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	runBuckets := []float64{10, 30, 60, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400}
	lookBuckets := []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	m := &Metrics{
		phase:        gauge("sluice_canary_phase", "1 for the phase of each Canary.", "namespace", "name", "phase"),
		phaseStarted: gauge("sluice_canary_phase_started_timestamp_seconds", "When the phase of each Canary began, in seconds since 1970.", "namespace", "name"),
		weight:       gauge("sluice_canary_weight_percent", "Share of requests that the canary gets, in percent.", "namespace", "name"),
		step:         gauge("sluice_canary_step", "Index of the current step, from 0; -1 outside a run.", "namespace", "name"),
		verdict:      gauge("sluice_canary_verdict", "1 for the last verdict of the gate of each running Canary.", "namespace", "name", "verdict"),
		runs:         counter("sluice_canary_runs_total", "Runs that ended, by outcome.", "namespace", "name", "outcome"),
		events:       counter("sluice_canary_events_total", "Events told of Canaries, by reason and type.", "reason", "type"),
		messages:     counter("sluice_notifier_messages_total", "Messages to each Notifier; result is sent, failed or dropped.", "namespace", "name", "result"),
		duration:     histogram("sluice_canary_run_duration_seconds", "How long runs took, by outcome.", runBuckets, "outcome"),
		looks:        histogram("sluice_gate_look_duration_seconds", "How long looks at the gate took; result is judged or unavailable.", lookBuckets, "result"),

		flaggerStatus:    gauge("flagger_canary_status", "Last result: 0 running, 1 successful, 2 failed.", "name", "namespace"),
		flaggerWeight:    gauge("flagger_canary_weight", "Share of requests of each workload, in percent; stable is called <name>-primary.", "workload", "namespace"),
		flaggerTotal:     gauge("flagger_canary_total", "Number of Canaries.", "namespace"),
		flaggerSuccesses: counter("flagger_canary_successes_total", "Runs that were promoted.", "name", "namespace", "deployment_strategy", "analysis_status"),
		flaggerFailures:  counter("flagger_canary_failures_total", "Runs that were rejected.", "name", "namespace", "deployment_strategy", "analysis_status"),
		flaggerDuration:  histogram("flagger_canary_duration_seconds", "How long runs took.", runBuckets, "name", "namespace"),
		canaries:         newCensus(),
	}
	var failed error
	for _, collector := range []prometheus.Collector{
		m.phase, m.phaseStarted, m.weight, m.step, m.verdict, m.runs, m.events, m.messages, m.duration, m.looks,
		m.flaggerStatus, m.flaggerWeight, m.flaggerTotal, m.flaggerSuccesses, m.flaggerFailures, m.flaggerDuration,
	} {
		failed = errors.Join(failed, registry.Register(collector))
	}
	if failed != nil {
		return nil, fmt.Errorf("register the controller's metrics: %w", failed)
	}
	return m, nil
}

// observe brings the gauges to what a status says.
func (m *Metrics) observe(canary *v1alpha1.Canary) {
	if m == nil {
		return
	}
	namespace, name, status := canary.Namespace, canary.Name, &canary.Status
	verdict := ""
	if status.Verdict != nil && status.Phase != v1alpha1.PhaseStable {
		verdict = status.Verdict.Verdict
	}
	shown := entry{target: canary.Spec.TargetRef.Name, phase: string(status.Phase), verdict: verdict}
	before, count := m.canaries.put(types.NamespacedName{Namespace: namespace, Name: name}, shown)
	m.outdated(namespace, name, before, shown)
	m.phase.WithLabelValues(namespace, name, string(status.Phase)).Set(1)
	if status.PhaseStartedAt != nil {
		m.phaseStarted.WithLabelValues(namespace, name).Set(float64(status.PhaseStartedAt.Unix()))
	}
	share := percentOf(status.Weight, status.TotalWeight)
	m.weight.WithLabelValues(namespace, name).Set(share)
	m.step.WithLabelValues(namespace, name).Set(float64(stepIndex(status)))
	if verdict != "" {
		m.verdict.WithLabelValues(namespace, name, verdict).Set(1)
	}
	target := shown.target
	m.flaggerStatus.WithLabelValues(target, namespace).Set(flaggerStatus(status.Phase))
	m.flaggerWeight.WithLabelValues(target, namespace).Set(share)
	m.flaggerWeight.WithLabelValues(target+"-primary", namespace).Set(100 - share)
	m.flaggerTotal.WithLabelValues(namespace).Set(float64(count))
}

// forget takes away the series of a Canary that is gone.
func (m *Metrics) forget(canary types.NamespacedName) {
	if m == nil {
		return
	}
	before, left := m.canaries.remove(canary)
	if before == (entry{}) {
		return
	}
	m.outdated(canary.Namespace, canary.Name, before, entry{})
	m.phaseStarted.DeleteLabelValues(canary.Namespace, canary.Name)
	m.weight.DeleteLabelValues(canary.Namespace, canary.Name)
	m.step.DeleteLabelValues(canary.Namespace, canary.Name)
	m.runs.DeletePartialMatch(prometheus.Labels{"namespace": canary.Namespace, "name": canary.Name})
	m.flaggerTotal.WithLabelValues(canary.Namespace).Set(float64(left))
}

// outdated takes away the series that say what is no longer so.
func (m *Metrics) outdated(namespace, name string, before, now entry) {
	if before.phase != now.phase {
		m.phase.DeleteLabelValues(namespace, name, before.phase)
	}
	if before.verdict != now.verdict {
		m.verdict.DeleteLabelValues(namespace, name, before.verdict)
	}
	if before.target == now.target {
		return
	}
	m.flaggerStatus.DeleteLabelValues(before.target, namespace)
	m.flaggerDuration.DeleteLabelValues(before.target, namespace)
	m.flaggerWeight.DeleteLabelValues(before.target, namespace)
	m.flaggerWeight.DeleteLabelValues(before.target+"-primary", namespace)
	m.flaggerSuccesses.DeleteLabelValues(before.target, namespace, "canary", "completed")
	m.flaggerFailures.DeleteLabelValues(before.target, namespace, "canary", "completed")
}

// tell counts the events that were told.
func (m *Metrics) tell(events []Event) {
	if m == nil {
		return
	}
	for _, event := range events {
		m.events.WithLabelValues(event.Reason, eventType(event)).Inc()
	}
}

// ended counts the runs that a decision has ended, not those whose record was closed before.
func (m *Metrics) ended(canary *v1alpha1.Canary, effects []Effect, run func(string) *v1alpha1.CanaryRun) {
	if m == nil {
		return
	}
	for _, effect := range effects {
		e, ok := effect.(RecordRun)
		if !ok || e.Ended == nil || run(e.Run) == nil || !run(e.Run).Record.EndedAt.Equal(stamp(*e.Ended)) {
			continue
		}
		outcome, took := run(e.Run).Record.Outcome, e.Ended.Sub(run(e.Run).CreationTimestamp.Time).Seconds()
		m.runs.WithLabelValues(canary.Namespace, canary.Name, string(outcome)).Inc()
		m.duration.WithLabelValues(string(outcome)).Observe(took)
		target := canary.Spec.TargetRef.Name
		m.flaggerDuration.WithLabelValues(target, canary.Namespace).Observe(took)
		switch outcome {
		case v1alpha1.OutcomePromoted:
			m.flaggerSuccesses.WithLabelValues(target, canary.Namespace, "canary", "completed").Inc()
		case v1alpha1.OutcomeRolledBack:
			m.flaggerFailures.WithLabelValues(target, canary.Namespace, "canary", "completed").Inc()
		}
	}
}

// What became of a message to a Notifier.
const (
	resultSent    = "sent"
	resultFailed  = "failed"
	resultDropped = "dropped"
)

// notified counts one message to a Notifier.
func (m *Metrics) notified(notifier types.NamespacedName, result string) {
	if m == nil {
		return
	}
	m.messages.WithLabelValues(notifier.Namespace, notifier.Name, result).Inc()
}

// forgetNotifier takes away the series of a Notifier that is gone.
func (m *Metrics) forgetNotifier(notifier types.NamespacedName) {
	if m == nil {
		return
	}
	m.messages.DeletePartialMatch(prometheus.Labels{"namespace": notifier.Namespace, "name": notifier.Name})
}

// looked counts one look at the gate.
func (m *Metrics) looked(look *GateLook, took time.Duration) {
	if m == nil || look == nil {
		return
	}
	result := "judged"
	if look.Unavailable != "" {
		result = "unavailable"
	}
	m.looks.WithLabelValues(result).Observe(took.Seconds())
}

func stepIndex(status *v1alpha1.CanaryStatus) int32 {
	switch status.Phase {
	case v1alpha1.PhaseStable, v1alpha1.PhaseRejected, v1alpha1.PhaseRollingBack:
		return -1
	}
	return status.Step
}

func percentOf(weight, total int32) float64 {
	if total <= 0 {
		total = 100
	}
	return float64(weight) * 100 / float64(total)
}

// flaggerStatus is how Flagger numbers results.
func flaggerStatus(phase v1alpha1.Phase) float64 {
	switch phase {
	case v1alpha1.PhaseStable:
		return 1
	case v1alpha1.PhaseRejected, v1alpha1.PhaseRollingBack:
		return 2
	}
	return 0
}
