// SPDX-License-Identifier: Apache-2.0

//go:build harness

package prometheus_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis/analysistest"
	"github.com/sluice-mesh/sluice/analysis/prometheus"
	judge "github.com/sluice-mesh/sluice/e2e/prometheus"
)

// The real Prometheus scrapes the workloads of the suite once a second.
func TestSourceConformance(t *testing.T) {
	exporter := &exporter{workloads: map[string]*analysistest.Workload{}}
	server := httptest.NewServer(exporter)
	t.Cleanup(server.Close)

	analysistest.TestSource(t, func(t *testing.T) analysistest.Bench {
		workload := &analysistest.Workload{}
		source, err := prometheus.New(prometheus.Options{
			Address: judge.Start(t, scrapes(strings.TrimPrefix(server.URL, "http://"), exporter.add(workload))),
		})
		require.NoError(t, err)
		t.Cleanup(source.Close)
		return analysistest.Bench{Workload: workload, Source: source}
	})
}

// exporter serves the metrics of each pod of each workload under /<workload>/<pod>.
type exporter struct {
	mutex     sync.Mutex
	workloads map[string]*analysistest.Workload
}

func (e *exporter) add(workload *analysistest.Workload) string {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	name := fmt.Sprintf("w%d", len(e.workloads))
	e.workloads[name] = workload
	return name
}

func (e *exporter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, pod, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	e.mutex.Lock()
	workload := e.workloads[name]
	e.mutex.Unlock()
	var text strings.Builder
	if workload == nil || !workload.WriteMetrics(&text, pod) {
		http.Error(w, "not running", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	_, _ = w.Write([]byte(text.String()))
}

// scrapes is a configuration by which each pod is scraped once a second.
func scrapes(target, workload string) map[string]any {
	var targets []any
	for _, pod := range []string{
		analysistest.Stable1, analysistest.Stable2, analysistest.Canary1, analysistest.Canary2, analysistest.Caller,
	} {
		targets = append(targets, map[string]any{
			"targets": []string{target},
			"labels": map[string]string{
				"__metrics_path__": "/" + workload + "/" + pod, "namespace": analysistest.Namespace, "pod": pod,
				"pod_template_hash": analysistest.PodHash(pod), "deployment": analysistest.Name,
			},
		})
	}
	return map[string]any{
		"global":         map[string]any{"scrape_interval": "1s", "scrape_timeout": "1s"},
		"scrape_configs": []any{map[string]any{"job_name": "pods", "static_configs": targets}},
	}
}
