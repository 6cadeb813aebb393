// SPDX-License-Identifier: Apache-2.0

//go:build harness

package prometheus_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis/analysistest"
	"github.com/sluice-mesh/sluice/analysis/prometheus"
	"github.com/sluice-mesh/sluice/e2e/binaries"
)

// The real Prometheus scrapes the workloads of the suite once a second.
func TestSourceConformance(t *testing.T) {
	exporter := &exporter{workloads: map[string]*analysistest.Workload{}}
	server := httptest.NewServer(exporter)
	t.Cleanup(server.Close)

	analysistest.TestSource(t, func(t *testing.T) analysistest.Bench {
		workload := &analysistest.Workload{}
		source, err := prometheus.New(prometheus.Options{
			Address: startPrometheus(t, strings.TrimPrefix(server.URL, "http://"), exporter.add(workload)),
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

// startPrometheus runs Prometheus until the test ends and returns its address.
func startPrometheus(t *testing.T, target, workload string) string {
	t.Helper()
	builder, err := binaries.New(t.Output())
	require.NoError(t, err)
	program, err := builder.Tool(t.Context(), "prometheus")
	require.NoError(t, err)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())

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
	configuration, err := json.Marshal(map[string]any{
		"global":         map[string]any{"scrape_interval": "1s", "scrape_timeout": "1s"},
		"scrape_configs": []any{map[string]any{"job_name": "pods", "static_configs": targets}},
	})
	require.NoError(t, err)
	directory := t.TempDir()
	file := filepath.Join(directory, "prometheus.yml") // JSON is YAML
	require.NoError(t, os.WriteFile(file, configuration, 0o600))

	command := exec.Command(program, "--config.file="+file, "--storage.tsdb.path="+directory, "--web.listen-address="+address, "--log.level=warn")
	command.Stdout, command.Stderr = t.Output(), t.Output()
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	require.Eventually(t, func() bool {
		response, err := client.Get("http://" + address + "/-/ready")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, 30*time.Second, 50*time.Millisecond)
	return "http://" + address
}
