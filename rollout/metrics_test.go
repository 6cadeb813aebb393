// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// measured is a registry that has seen one Canary run, be promoted and be rejected.
func measured(t *testing.T) (*prometheus.Registry, *Metrics) {
	t.Helper()
	registry := prometheus.NewRegistry()
	metrics, err := NewMetrics(registry)
	require.NoError(t, err)
	w := holdingAt(t, 50)
	w.canary.Status.Verdict = &v1alpha1.VerdictStatus{Verdict: "wait"}
	metrics.observe(&w.canary)
	metrics.looked(&GateLook{}, time.Second)
	metrics.notified(types.NamespacedName{Namespace: "shop", Name: "chat"}, resultSent)
	metrics.tell([]Event{{Warning: true, Reason: v1alpha1.ReasonRolledBack}})
	ended := w.now
	for _, outcome := range []v1alpha1.Outcome{v1alpha1.OutcomePromoted, v1alpha1.OutcomeRolledBack} {
		run := &v1alpha1.CanaryRun{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(ended.Add(-time.Minute))}}
		run.Record.Outcome, run.Record.EndedAt = outcome, stamp(ended)
		metrics.ended(&w.canary, []Effect{RecordRun{Run: "app-1", Ended: &ended}}, func(string) *v1alpha1.CanaryRun { return run })
	}
	return registry, metrics
}

// docs/metrics.md describes each metric that there is, with its labels, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	registry, _ := measured(t)
	families, err := registry.Gather()
	require.NoError(t, err)
	var there []string
	for _, family := range families {
		labels := []string{}
		for _, label := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, label.GetName())
		}
		slices.Sort(labels)
		there = append(there, family.GetName()+" "+family.GetType().String()+" "+strings.Join(labels, ","))
	}
	page, err := os.ReadFile("../docs/metrics.md")
	require.NoError(t, err)
	var documented []string
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z]+) \\| ([a-z_, ]+) \\|")
	for _, match := range row.FindAllStringSubmatch(string(page), -1) {
		labels := strings.Split(match[3], ", ")
		slices.Sort(labels)
		documented = append(documented, match[1]+" "+map[string]string{"gauge": "GAUGE", "counter": "COUNTER", "histogram": "HISTOGRAM"}[match[2]]+" "+strings.Join(labels, ","))
	}
	slices.Sort(documented)
	require.Equal(t, there, documented)
}

func TestMetricsFollowTheStatus(t *testing.T) {
	registry, metrics := measured(t)
	require.Equal(t, map[string]float64{
		`flagger_canary_weight{namespace="shop",workload="app"}`: 50, `flagger_canary_weight{namespace="shop",workload="app-primary"}`: 50,
		`flagger_canary_status{name="app",namespace="shop"}`: 0, `flagger_canary_total{namespace="shop"}`: 1,
		`sluice_canary_phase{name="app",namespace="shop",phase="Holding"}`:           1,
		`sluice_canary_verdict{name="app",namespace="shop",verdict="wait"}`:          1,
		`sluice_canary_weight_percent{name="app",namespace="shop"}`:                  50,
		`sluice_canary_step{name="app",namespace="shop"}`:                            1,
		`sluice_canary_events_total{reason="RolledBack",type="Warning"}`:             1,
		`sluice_notifier_messages_total{name="chat",namespace="shop",result="sent"}`: 1,
		`sluice_canary_runs_total{name="app",namespace="shop",outcome="Promoted"}`:   1,
		`sluice_canary_runs_total{name="app",namespace="shop",outcome="RolledBack"}`: 1,
	}, values(t, registry))

	metrics.observe(&at(t, v1alpha1.PhaseRejected).canary)
	now := values(t, registry)
	require.InDelta(t, 2, now[`flagger_canary_status{name="app",namespace="shop"}`], 0)
	require.InDelta(t, -1, now[`sluice_canary_step{name="app",namespace="shop"}`], 0)
	require.InDelta(t, 1, now[`sluice_canary_phase{name="app",namespace="shop",phase="Rejected"}`], 0)
	require.NotContains(t, now, `sluice_canary_phase{name="app",namespace="shop",phase="Holding"}`)

	metrics.forget(types.NamespacedName{Namespace: "shop", Name: "app"})
	require.Equal(t, map[string]float64{
		`flagger_canary_total{namespace="shop"}`:                                     0,
		`sluice_canary_events_total{reason="RolledBack",type="Warning"}`:             1,
		`sluice_notifier_messages_total{name="chat",namespace="shop",result="sent"}`: 1,
	}, values(t, registry), "nothing is left of a Canary that is gone")
}

// values are the gauges and counters, but for times and what Flagger counts per run.
func values(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	found := map[string]float64{}
	for _, family := range families {
		if strings.HasSuffix(family.GetName(), "_seconds") || strings.HasPrefix(family.GetName(), "flagger_canary_successes") || strings.HasPrefix(family.GetName(), "flagger_canary_failures") {
			continue
		}
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", label.GetName(), label.GetValue()))
			}
			found[family.GetName()+"{"+strings.Join(labels, ",")+"}"] = metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
		}
	}
	return found
}
