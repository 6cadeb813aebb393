// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestImageHoldsTheFilesAndItsKeyFollowsThem(t *testing.T) {
	source := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(source, []byte("a program"), 0o755))
	image := Image{
		Reference: "sluice.dev/program:dev", Entrypoint: []string{"/bin/program"},
		Files: map[string]string{"/bin/program": source, "/etc/deep/er/config": source},
	}
	key, err := image.key()
	require.NoError(t, err)
	again, err := image.key()
	require.NoError(t, err)
	require.Equal(t, key, again)

	first, err := image.build()
	require.NoError(t, err)
	config, err := first.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, "65532:65532", config.Config.User)
	require.Equal(t, []string{"/bin/program"}, config.Config.Entrypoint)

	layer, err := image.layer()
	require.NoError(t, err)
	modes := map[string]int64{}
	reader := tar.NewReader(bytes.NewReader(layer))
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		modes[header.Name] = header.Mode
	}
	require.Equal(t, map[string]int64{
		"bin/": 0o755, "etc/": 0o755, "etc/deep/": 0o755, "etc/deep/er/": 0o755, "tmp/": 0o1777,
		"bin/program": 0o755, "etc/deep/er/config": 0o755,
	}, modes)

	require.NoError(t, os.WriteFile(source, []byte("another"), 0o755))
	changed, err := image.key()
	require.NoError(t, err)
	require.NotEqual(t, key, changed)
	image.User = "0"
	root, err := image.key()
	require.NoError(t, err)
	require.NotEqual(t, changed, root)
}

func TestImageNamesTheMissingFile(t *testing.T) {
	_, err := Image{Reference: "sluice.dev/x:dev", Files: map[string]string{"/x": "/does/not/exist"}}.build()
	require.ErrorContains(t, err, "build image sluice.dev/x:dev")
	require.ErrorContains(t, err, "/does/not/exist")
}
