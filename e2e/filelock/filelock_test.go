// SPDX-License-Identifier: Apache-2.0

package filelock

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSecondHolderWaitsUntilTheFirstLetsGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), path, func() { t.Error("nobody holds it") })
	require.NoError(t, err)

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	waited := 0
	_, err = Lock(short, path, func() { waited++ })
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 1, waited)

	unlock()
	unlock, err = Lock(t.Context(), path, func() { t.Error("nobody holds it") })
	require.NoError(t, err)
	unlock()
}

func TestHolderMayRemoveTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), path, func() {})
	require.NoError(t, err)
	waits, taken := make(chan struct{}), make(chan error)
	go func() {
		again, err := Lock(t.Context(), path, func() { close(waits) })
		if err == nil {
			again()
		}
		taken <- err
	}()
	<-waits
	require.NoError(t, os.Remove(path))
	unlock()
	require.NoError(t, <-taken)
	require.FileExists(t, path)
}
