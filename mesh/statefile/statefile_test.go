// SPDX-License-Identifier: Apache-2.0

package statefile

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	_, err := Read(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, content := range [][]byte{[]byte("first"), nil, bytes.Repeat([]byte{0}, Most)} {
		require.NoError(t, Write(path, content))
		got, err := Read(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got))
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	require.ErrorIs(t, Write(path, make([]byte, Most+1)), ErrLarge)
	files, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, files, 1, "nothing else is left behind")
	require.Error(t, Write(filepath.Join(path, "below", "a file"), nil))
}

func TestDamageIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	require.NoError(t, Write(path, []byte("content")))
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for at := range whole {
		flipped := bytes.Clone(whole)
		flipped[at] ^= 1
		for name, damaged := range map[string][]byte{"flipped": flipped, "cut": whole[:at]} {
			require.NoError(t, os.WriteFile(path, damaged, 0o600))
			_, err := Read(path)
			require.ErrorIs(t, err, ErrDamaged, "%s at %d", name, at)
		}
	}
	require.NoError(t, os.WriteFile(path, append(whole, 'x'), 0o600))
	_, err = Read(path)
	require.ErrorIs(t, err, ErrDamaged)
	require.NoError(t, os.WriteFile(path, append(header(nil), make([]byte, Most+1)...), 0o600))
	_, err = Read(path)
	require.ErrorIs(t, err, ErrDamaged)
}
