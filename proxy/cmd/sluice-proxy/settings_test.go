// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/identity/identitytest"
	"github.com/sluice-mesh/sluice/proxy"
)

func environment(variables map[string]string) func(string) string {
	return func(name string) string { return variables[name] }
}

func TestSettings(t *testing.T) {
	read, err := readSettings(environment(map[string]string{"SLUICE_POD_IP": "10.0.0.1", "SLUICE_POD_NAMESPACE": "shop", "SLUICE_ACCESS_LOG": "apache", "SLUICE_TRACING": "http://collector:4318?ratio=1"}))
	require.NoError(t, err)
	require.Equal(t, defaultControlPlane, read.controlPlane)
	require.Equal(t, "spiffe://cluster.local/ns/sluice-system/sa/sluice-mesh", read.controlPlaneID)
	require.Equal(t, 2, read.processors)
	require.Equal(t, slog.LevelInfo, read.logLevel)
	require.Equal(t, mesh.AccessLog{Format: mesh.AccessLogApache}, read.accessLog)
	require.Equal(t, mesh.Tracing{Collector: "http://collector:4318/v1/traces", Ratio: 1}, read.tracing)
	options := proxy.Options{}
	_, err = useControlPlane(&options, read)
	require.ErrorContains(t, err, "SLUICE_TRUST_ANCHORS")
	read.anchors = identitytest.New(t).AnchorsPEM()
	client, err := useControlPlane(&options, read)
	require.NoError(t, err)
	require.NotNil(t, client)
	require.Equal(t, "spiffe://cluster.local/ns/shop/sa/default", options.ID.String())
}

func TestBadSettingsAreNamed(t *testing.T) {
	_, err := readSettings(environment(map[string]string{"SLUICE_POD_IP": "here", "SLUICE_GOMAXPROCS": "none", "SLUICE_LOG_LEVEL": "loud", "SLUICE_ACCESS_LOG": "common", "SLUICE_TRACING": "on"}))
	for _, name := range []string{"SLUICE_POD_IP", "SLUICE_GOMAXPROCS", "SLUICE_LOG_LEVEL", "SLUICE_ACCESS_LOG", "SLUICE_TRACING"} {
		require.ErrorContains(t, err, name)
	}
}

func TestSnapshotFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "snapshot.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"version":3,"inbound":{"workload":"shop/cart"}}`), 0o600))
	options := proxy.Options{}
	require.NoError(t, useSnapshot(&options, file))
	require.Equal(t, "shop/cart", options.Snapshot.Inbound.Workload)
	require.Error(t, useSnapshot(&options, file+".missing"))
}
