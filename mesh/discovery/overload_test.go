// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestChangesOfOverloadsReachPods: a pod is told of a change of what bounds it, and of nothing else.
func TestChangesOfOverloadsReachPods(t *testing.T) {
	text, err := os.ReadFile("testdata/services.in.yaml")
	require.NoError(t, err)
	build := func(old, fresh string) *Index {
		changed := strings.Replace(string(text), old, fresh, 1)
		require.Equal(t, old == fresh, changed == string(text))
		return Build(testDomain, readInputs(t, []byte(changed)))
	}
	before := build("", "")
	for name, test := range map[string]struct {
		old, fresh string
		same       bool
	}{
		"nothing":        {"", "", true},
		"most":           {"    maxParallelRequests: 40", "    maxParallelRequests: 41", false},
		"a class":        {"bytesPerSecond: 1000000}", "bytesPerSecond: 2000000}", false},
		"something else": {"try: 1500us", "try: 2s", true},
	} {
		t.Run(name, func(t *testing.T) {
			after := build(test.old, test.fresh)
			same := sameWorkloads(before, after)
			require.Equal(t, test.same, sameInbound(before, after, "shop/p1", same))
			require.Equal(t, test.same, equalInbounds(before.Inbound("shop/p1"), after.Inbound("shop/p1")))
		})
	}
}
