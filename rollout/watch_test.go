// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// However long an outage lasts, a run is looked at again half a minute after it at the latest.
func TestPausesAreBounded(t *testing.T) {
	tried := pauses()
	var last time.Duration
	for range 100 {
		last = tried.When(reconcile.Request{})
	}
	require.Equal(t, 30*time.Second, last)
	require.Equal(t, 5*time.Millisecond, pauses().When(reconcile.Request{}))
}
