// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDialsAreBounded(t *testing.T) {
	d := newDialing()
	var leaves []func()
	for range dialsMost {
		leave, err := d.enter(t.Context(), "a")
		require.NoError(t, err)
		leaves = append(leaves, leave)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.enter(canceled, "a")
	require.ErrorIs(t, err, context.Canceled, "the address has no slot left")
	leave, err := d.enter(t.Context(), "b")
	require.NoError(t, err, "other addresses have their own")
	leave()
	var waiting sync.WaitGroup
	waiting.Go(func() {
		leave, err := d.enter(t.Context(), "a")
		if err != nil {
			t.Error(err)
			return
		}
		leave()
	})
	for _, leave := range leaves {
		leave()
	}
	waiting.Wait()
	require.Empty(t, d.slots, "nothing is kept of what is over")
}
