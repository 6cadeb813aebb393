// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/proxy/http1"
)

// TestErrorsAreDocumented: every code that people may meet stands on the page, with its status.
func TestErrorsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/proxy-errors.md")
	require.NoError(t, err)
	http1.Errors(^uint64(0)).All(func(e http1.Error) bool {
		require.Contains(t, string(page), fmt.Sprintf("| `%s` | %d | ", e.Name(), e.Status()))
		return true
	})
	for _, code := range []string{
		errorConnect, errorNoEndpoint, errorReset, errorCanceled, errorTruncated, errorMalformed, errorHeadTime,
	} {
		require.Contains(t, string(page), "| `"+code+"` | ")
	}
}
