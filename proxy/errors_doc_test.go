// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluice-mesh/sluice/proxy/http1"
	"github.com/sluice-mesh/sluice/proxy/http2"
)

// TestErrorsAreDocumented: every code that people may meet stands on the page, with its status.
func TestErrorsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/proxy-errors.md")
	require.NoError(t, err)
	http1.Errors(^uint64(0)).All(func(e http1.Error) bool {
		require.Contains(t, string(page), fmt.Sprintf("| `%s` | %d | ", e.Name(), e.Status()))
		return true
	})
	for _, why := range []http2.MalformedError{
		http2.ErrPseudo, http2.ErrMethod, http2.ErrScheme, http2.ErrPath,
		http2.ErrAuthority, http2.ErrHost, http2.ErrStatus, http2.ErrFieldName,
		http2.ErrFieldValue, http2.ErrConnection, http2.ErrLength, http2.ErrContent,
		http2.ErrTrailer, http2.ErrInterim, http2.ErrHeadLarge, http2.ErrFieldsMany,
	} {
		require.Contains(t, string(page), "| `"+string(why)+"` | ")
	}
	for _, code := range []string{
		errorConnect, errorNoEndpoint, errorReset, errorCanceled, errorTruncated, errorMalformed, errorHeadTime, errorOverload,
		errorHTTP1Only, errorHTTP2Only, errorDenied, errorRateLimited, errorRequestTime, errorTryTime, errorIdleTime, errorCircuitOpen, errorShed,
	} {
		require.Contains(t, string(page), "| `"+code+"` | ")
	}
}
