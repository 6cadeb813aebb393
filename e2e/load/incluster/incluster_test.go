// SPDX-License-Identifier: Apache-2.0

package incluster

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/e2e/apply"
)

func TestYAML(t *testing.T) {
	for meshed, want := range map[bool]string{true: "enabled", false: "disabled"} {
		content, err := Pod{Namespace: "shop", Name: "load", Meshed: meshed, Target: "http://podinfo.shop", Rate: 100}.YAML()
		require.NoError(t, err)
		objects, err := apply.Objects(content)
		require.NoError(t, err)
		require.Len(t, objects, 2)
		require.Equal(t, want, objects[1].GetLabels()["sluice.dev/inject"])
		require.Equal(t, "shop", objects[1].GetNamespace())
	}
}
