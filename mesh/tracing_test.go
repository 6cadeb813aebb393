// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseTracing(t *testing.T) {
	for text, want := range map[string]Tracing{
		"http://collector.observability:4318?ratio=0.01": {"http://collector.observability:4318/v1/traces", 0.01},
		"https://10.0.0.1/otel/traces?ratio=1":           {"https://10.0.0.1/otel/traces", 1},
		"http://[::1]:4318/?ratio=0":                     {"http://[::1]:4318/v1/traces", 0},
	} {
		parsed, err := ParseTracing(text)
		require.NoError(t, err)
		require.Equal(t, want, parsed)
		again, err := ParseTracing(parsed.String())
		require.NoError(t, err)
		require.Equal(t, parsed, again)
	}
	for _, text := range []string{
		"", "collector:4318?ratio=1", "grpc://collector:4317?ratio=1", "http://?ratio=1", "http://:4318?ratio=1", "http://collector:4318",
		"http://collector?ratio=2", "http://collector?ratio=-0.1", "http://collector?ratio=NaN", "http://collector?ratio=half",
		"http://collector?ratio=1&ratio=0", "http://collector?ratio=1&x=y", "http://me:secret@collector?ratio=1", "http://collector?ratio=1#a",
	} {
		_, err := ParseTracing(text)
		require.ErrorContains(t, err, "such as http://collector.observability:4318?ratio=0.01", text)
	}
}
