// SPDX-License-Identifier: Apache-2.0

package demosync

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/e2e/sampleapp"
)

func write(t *testing.T, directory string, app sampleapp.App) {
	t.Helper()
	files, err := app.Files("")
	require.NoError(t, err)
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(directory, name), content, 0o600))
	}
}

func TestBuildAndGone(t *testing.T) {
	directory := t.TempDir()
	app := sampleapp.App{Namespace: "shop", Version: "v1", Disruption: &sampleapp.Disruption{MaxUnavailable: "1"}}
	write(t, directory, app)
	before, err := Build(directory)
	require.NoError(t, err)
	require.Len(t, before, 4)

	app.Disruption = nil
	write(t, directory, app)
	after, err := Build(directory)
	require.NoError(t, err)

	stale, err := gone(inventory(before), inventory(after))
	require.NoError(t, err)
	require.Len(t, stale, 1)
	require.Equal(t, "policy/v1, Kind=PodDisruptionBudget", stale[0].GroupVersionKind().String())
	require.Equal(t, "shop/podinfo", stale[0].GetNamespace()+"/"+stale[0].GetName())

	stale, err = gone("", inventory(after))
	require.NoError(t, err)
	require.Empty(t, stale)
}
