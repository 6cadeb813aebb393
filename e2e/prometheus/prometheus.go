// SPDX-License-Identifier: Apache-2.0

// Package prometheus runs the real Prometheus for tests.
package prometheus

import (
	"crypto/tls"
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

// Server is a Prometheus that may be stopped and started again.
type Server struct {
	// Address is its base URL.
	Address string

	program   string
	arguments []string
	data      string
	client    *http.Client
	command   *exec.Cmd
}

// Start runs Prometheus with a configuration until the test ends and returns its address.
func Start(t testing.TB, configuration any) string {
	t.Helper()
	return Run(t, configuration, nil, nil).Address
}

// Run runs Prometheus with a configuration and, if there is one, a web configuration, for which TLS is
// what a client needs.
func Run(t testing.TB, configuration, web any, secure *tls.Config) *Server {
	t.Helper()
	builder, err := binaries.New(t.Output())
	require.NoError(t, err)
	program, err := builder.Tool(t.Context(), "prometheus")
	require.NoError(t, err)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())

	directory := t.TempDir()
	write := func(name string, content any) string {
		encoded, err := json.Marshal(content)
		require.NoError(t, err)
		file := filepath.Join(directory, name) // JSON is YAML
		require.NoError(t, os.WriteFile(file, encoded, 0o600))
		return file
	}
	s := &Server{
		Address: "http://" + address, program: program, data: filepath.Join(directory, "data"),
		client: &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: secure}},
	}
	s.arguments = []string{
		"--config.file=" + write("prometheus.yml", configuration), "--storage.tsdb.path=" + s.data,
		"--web.listen-address=" + address, "--log.level=warn",
	}
	if web != nil {
		s.Address = "https://" + address
		s.arguments = append(s.arguments, "--web.config.file="+write("web.yml", web))
	}
	t.Cleanup(s.kill)
	s.Start(t)
	return s
}

// Start the server and wait until it is ready.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.command = exec.Command(s.program, s.arguments...)
	s.command.Stdout, s.command.Stderr = t.Output(), t.Output()
	require.NoError(t, s.command.Start())
	require.Eventually(t, func() bool {
		response, err := s.client.Get(s.Address + "/-/ready")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, 30*time.Second, 50*time.Millisecond)
}

// Stop the server as a node that dies does.
func (s *Server) Stop() { s.kill() }

// Wipe loses all data of a server that is stopped.
func (s *Server) Wipe(t testing.TB) {
	t.Helper()
	require.NoError(t, os.RemoveAll(s.data))
}

func (s *Server) kill() {
	if s.command != nil {
		_ = s.command.Process.Kill()
		_ = s.command.Wait()
		s.command = nil
	}
}
