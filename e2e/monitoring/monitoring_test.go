// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/sluice-mesh/sluice/e2e/apply"
)

func TestYAML(t *testing.T) {
	content, err := YAML(Image, time.Second)
	require.NoError(t, err)
	objects, err := apply.Objects(content)
	require.NoError(t, err)
	kinds := map[string]int{}
	for _, object := range objects {
		kinds[object.GetKind()]++
		if object.GetKind() != "ConfigMap" {
			continue
		}
		data, ok := object.Object["data"].(map[string]any)
		require.True(t, ok)
		var config map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(data["prometheus.yaml"].(string)), &config))
		require.Equal(t, map[string]any{"scrape_interval": "1s", "scrape_timeout": "1s"}, config["global"])
	}
	require.Equal(t, map[string]int{
		"Namespace": 1, "ServiceAccount": 1, "ClusterRole": 1, "ClusterRoleBinding": 1, "Service": 1, "Deployment": 1, "ConfigMap": 1,
	}, kinds)
}
