// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"testing"
	"time"

	"github.com/sluice-mesh/sluice/e2e/sampleapp"
)

// TestShare: a step's share of the requests is its share of the answers, for a caller outside the mesh
// as for one inside, whatever share of the pods the canary has: half a percent, which is finer than
// weights in percent are, and 25 percent.
func TestShare(t *testing.T) {
	t.Parallel()
	f := start(t, "share", sampleapp.App{Replicas: 2, Canary: following(
		`totalWeight: 1000`, `steps: [{weight: 5, hold: 5s}, {weight: 250, hold: 5s}, {weight: 1000, hold: 2s}]`, `skipAnalysis: true`)}, 300)

	f.release("v2")
	f.await("weight 5 of 1000 is in force", holdingAt(5))
	// Of 3,750 requests of each client some 19 are the canary's; chance takes it out of this once in 10,000 times.
	f.expectShare("v2", 0.5, 0.46, 25*time.Second)

	state := f.await("weight 250 of 1000 is in force", holdingAt(250))
	r := state.LatestRun()
	t.Logf("%d pods of the canary, %d of stable", len(state.UIDs(r.Spec.Candidate.PodTemplateHash)), len(state.UIDs(r.Spec.Stable.PodTemplateHash)))
	// At 2,500 requests chance alone moves the share by less than 3 points, but for 1 in 1,800 times.
	f.expectShare("v2", 25, 3, 18*time.Second)

	f.expectPromoted(f.awaitRun(""))
	f.expectNoFailures()
}
