// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/json"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves the counters: GET /counts as JSON, GET /metrics for Prometheus, POST /reset, and
// GET /healthz.
func (c *Client) Handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{c})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// An error here means that the reader has gone.
		_ = json.NewEncoder(w).Encode(c.Counts())
	})
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		c.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

// collector exposes the counters as they are at the scrape.
type collector struct{ client *Client }

func (collector) descriptions() (requests, failures, seconds *prometheus.Desc) {
	return prometheus.NewDesc("load_requests_total", "Requests finished, by the version that answered.", []string{"version"}, nil),
		prometheus.NewDesc("load_failures_total", "Requests failed, by version and class.", []string{"version", "class"}, nil),
		prometheus.NewDesc("load_latency_seconds", "Quantiles of complete answers since the last reset.", []string{"quantile"}, nil)
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	requests, failures, seconds := c.descriptions()
	ch <- requests
	ch <- failures
	ch <- seconds
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	requests, failures, seconds := c.descriptions()
	counts := c.client.Counts()
	for name, version := range counts.Versions {
		ch <- prometheus.MustNewConstMetric(requests, prometheus.CounterValue, float64(version.Requests), name)
		for class, n := range version.Failures {
			ch <- prometheus.MustNewConstMetric(failures, prometheus.CounterValue, float64(n), name, string(class))
		}
	}
	ch <- prometheus.MustNewConstMetric(seconds, prometheus.GaugeValue, counts.P50/1000, "0.5")
	ch <- prometheus.MustNewConstMetric(seconds, prometheus.GaugeValue, counts.P99/1000, "0.99")
}
