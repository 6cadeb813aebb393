// SPDX-License-Identifier: Apache-2.0

//go:build !race

package http1

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCarryingMakesNoGarbage is not for the race detector, under which pools forget by chance.
func TestCarryingMakesNoGarbage(t *testing.T) {
	for _, test := range carriers() {
		var buffers Buffers
		reader, writer := NewReader(&endless{data: []byte(test.data)}, &buffers, Rules{}), NewWriter(io.Discard, &buffers)
		allocations := testing.AllocsPerRun(1000, func() { require.NoError(t, test.once(reader, writer)) })
		require.Zero(t, allocations, test.name)
	}
}
