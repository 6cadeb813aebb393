// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/analysis/prometheus"
)

// A Secret that is renewed under a running controller is used from the next request on.
func TestPrometheusAccess(t *testing.T) {
	directory := t.TempDir()
	write := func(name, content string) {
		require.NoError(t, os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600))
	}
	options := &prometheusOptions{address: "http://prometheus:9090", credentials: directory, headers: map[string]string{"X-Scope-OrgID": "shop"}}
	write("token", "first\n")
	made, err := options.options(t.Context())
	require.NoError(t, err)
	write("token", "second\n")
	access, err := made.Access(t.Context())
	require.NoError(t, err)
	require.Equal(t, prometheus.Access{Token: "second", Headers: options.headers}, access)

	write("username", "somebody")
	_, err = options.options(t.Context())
	require.ErrorContains(t, err, "access to Prometheus: more than one of a token, a user, OAuth2 and a key of AWS")
	for _, used := range []string{"token", "username"} {
		require.NoError(t, os.Remove(filepath.Join(directory, used)))
	}
	write("aws-access-key-id", "AKID")
	_, err = options.options(t.Context())
	require.ErrorContains(t, err, "access to Prometheus: AWS signatures need a region")
	options.credentials = filepath.Join(directory, "absent")
	_, err = options.options(t.Context())
	require.ErrorContains(t, err, "the credentials' directory")
}
