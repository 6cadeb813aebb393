// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMemoryIsLimitedAsTheContainerIs(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	for name, test := range map[string]struct {
		file, environment string
		want              int64
	}{
		"128 MiB":                 {"134217728\n", "", 134217700 / 100 * 90},
		"no limit":                {"max\n", "", math.MaxInt64},
		"no file":                 {"", "", math.MaxInt64},
		"no number":               {"lots", "", math.MaxInt64},
		"nothing":                 {"0", "", math.MaxInt64},
		"the environment says so": {"134217728\n", "64MiB", math.MaxInt64},
	} {
		t.Run(name, func(t *testing.T) {
			debug.SetMemoryLimit(math.MaxInt64)
			file := filepath.Join(t.TempDir(), "memory.max")
			if test.file != "" {
				require.NoError(t, os.WriteFile(file, []byte(test.file), 0o600))
			}
			limitMemory(func(string) string { return test.environment }, file)
			require.Equal(t, test.want, debug.SetMemoryLimit(-1))
		})
	}
}
