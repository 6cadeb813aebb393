// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
)

// The glimpse comes with the last round, which is the open one where stable was read after the canary.
func TestFoldGlimpse(t *testing.T) {
	cases := []struct {
		name   string
		answer model.Matrix
		open   bool // the last round
		canary uint64
	}{
		{
			name: "with a complete round", canary: 30,
			answer: model.Matrix{good("new/1", 0, 0, 5, 20, 10, 40), bad("new/1", 0, 0, 5, 0, 10, 30), good("old/1", 0, 0, 5, 50, 10, 100)},
		},
		{
			name: "half of stable was read after it", open: true, canary: 30,
			answer: model.Matrix{good("new/1", 0, 0, 5, 20, 10, 40), bad("new/1", 0, 0, 5, 0, 10, 30), good("old/1", 0, 0, 6, 50, 11, 100), good("old/2", 0, 0, 6, 50)},
		},
		{
			name:   "stable was read before it",
			answer: model.Matrix{good("new/1", 0, 0, 5, 20, 10, 40), bad("new/1", 0, 0, 5, 0, 10, 30), good("old/1", 0, 0, 4, 50, 9, 100)},
		},
		{
			name:   "what only callers saw waits for rounds",
			answer: model.Matrix{good("new/1", 0, 0, 5, 20, 10, 40), stream(responses, "new/2", "lost", 0, 0, 5, 0, 10, 30), good("old/1", 0, 0, 5, 50, 10, 100)},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, err := newPlan(runQuery(time.Minute))
			require.NoError(t, err)
			rounds, err := fold(p, c.answer)
			require.NoError(t, err)
			require.NotEmpty(t, rounds)
			last := rounds[len(rounds)-1]
			require.Equal(t, c.open, last.Open)
			if c.canary == 0 {
				require.Nil(t, last.Glimpse)
				return
			}
			require.NotNil(t, last.Glimpse)
			require.Equal(t, c.canary, last.Glimpse.CanaryPods[0].Errors)
		})
	}
}
