// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReleasedReadersReadOn(t *testing.T) {
	const message = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
	source := strings.NewReader("")
	var buffers Buffers
	reader := NewReader(source, &buffers, Rules{})
	var request Request
	for range 3 {
		source.Reset(message)
		require.NoError(t, reader.Await())
		require.Equal(t, len(message), reader.Buffered())
		require.NoError(t, reader.ReadRequest(&request))
		reader.Pin()
		data, err := reader.Next()
		require.NoError(t, err)
		require.Equal(t, "abc", string(data))
		reader.Release()
	}
	require.ErrorIs(t, reader.Await(), io.EOF)
}
