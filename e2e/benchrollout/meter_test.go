// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestQuantile(t *testing.T) {
	before := histogram{count: 10, within: map[float64]float64{.001: 10, .01: 10, .1: 10, math.Inf(1): 10}}
	after := histogram{count: 110, within: map[float64]float64{.001: 60, .01: 108, .1: 109, math.Inf(1): 110}}
	for q, want := range map[float64]float64{.5: 1, .98: 10, .99: 100, 1: math.Inf(1)} {
		require.Equal(t, want, after.quantile(q, before), "%v", q)
	}
}

func TestRanked(t *testing.T) {
	var took []time.Duration
	for i := range 20 {
		took = append(took, time.Duration(20-i)*time.Second)
	}
	for share, want := range map[float64]time.Duration{.5: 10 * time.Second, .95: 19 * time.Second, 1: 20 * time.Second} {
		require.Equal(t, want, ranked(took, share), "%v", share)
	}
	require.Equal(t, time.Second, ranked([]time.Duration{time.Second}, .95))
}

// What is exported is read back as it was counted, by the parser that reads the controller's metrics.
func TestExporter(t *testing.T) {
	e := newExporter(time.Now())
	server := httptest.NewServer(e)
	defer server.Close()
	key := client.ObjectKey{Namespace: "shop", Name: "app"}
	e.let(key, flow{stable: "old", canary: "new", share: .5})
	e.spoil(key)
	e.lock.Lock()
	e.workloads[key].revisions["new"].good, e.workloads[key].revisions["new"].bad = 0, 0
	e.last = e.last.Add(-time.Second)
	e.lock.Unlock()
	samples, err := scrape(t.Context(), server.URL)
	require.NoError(t, err)
	good, bad := 0.0, 0.0
	for _, sample := range samples {
		if sample.Metric["__name__"] == "response_total" && sample.Metric["pod_template_hash"] == "new" {
			if sample.Metric["classification"] == "failure" {
				bad += float64(sample.Value)
			} else {
				good += float64(sample.Value)
			}
		}
	}
	require.GreaterOrEqual(t, bad, requestsPerSecond*.5*badShare-podsPerRevision)
	require.InDelta(t, good, bad, podsPerRevision)
}
