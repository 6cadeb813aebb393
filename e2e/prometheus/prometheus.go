// SPDX-License-Identifier: Apache-2.0

// Package prometheus runs the real Prometheus for tests.
package prometheus

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/e2e/binaries"
)

// Start runs Prometheus with a configuration until the test ends and returns its address.
func Start(t testing.TB, configuration any) string {
	t.Helper()
	builder, err := binaries.New(t.Output())
	require.NoError(t, err)
	program, err := builder.Tool(t.Context(), "prometheus")
	require.NoError(t, err)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())

	encoded, err := json.Marshal(configuration)
	require.NoError(t, err)
	directory := t.TempDir()
	file := filepath.Join(directory, "prometheus.yml") // JSON is YAML
	require.NoError(t, os.WriteFile(file, encoded, 0o600))

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
