// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// TestMatches: A/B by what a request is. A quarter of each client's requests are POST; the canary gets
// those and no other, whatever its weight, from inside and outside of the mesh.
func TestMatches(t *testing.T) {
	t.Parallel()
	f := start(t, "matches", sampleapp.App{Replicas: 2, Canary: following(
		`steps: [{matches: [{method: POST, path: {prefix: /echo}}], hold: 10s}, {weight: 100, hold: 4s}]`)}, 100)

	f.release("v2")
	f.await("the canary gets what matches", holdingAt(0))
	f.await("who looks is told that nothing is compared", func(s timeline.State) bool {
		ready := meta.FindStatusCondition(s.Canary.Status.Conditions, v1alpha1.ConditionReady)
		return ready != nil && strings.Contains(ready.Message, "not compared with stable")
	})
	f.expectShare("v2", 25, 5, 15*time.Second)

	f.expectPromoted(f.awaitRun(""))
	f.expectNoFailures()
}
