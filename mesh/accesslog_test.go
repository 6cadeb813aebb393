// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseAccessLog(t *testing.T) {
	for text, want := range map[string]AccessLog{
		"json":         {Format: AccessLogJSON},
		"apache":       {Format: AccessLogApache},
		"json+query":   {Format: AccessLogJSON, Query: true},
		"apache+query": {Format: AccessLogApache, Query: true},
	} {
		parsed, err := ParseAccessLog(text)
		require.NoError(t, err)
		require.Equal(t, want, parsed)
		require.Equal(t, text, parsed.String())
	}
	for _, text := range []string{"", "JSON", "common", "+query", "json+query+query", "json "} {
		_, err := ParseAccessLog(text)
		require.ErrorContains(t, err, "is none of json, apache, json+query, apache+query", text)
	}
}
