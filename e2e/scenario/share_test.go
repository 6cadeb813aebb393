// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"testing"
	"time"

	"github.com/sluice-mesh/sluice/e2e/sampleapp"
)

// TestShare: at weight 25 a caller outside the mesh sees the canary in 25 % +- 3 of its answers, as
// one inside does, whatever share of the pods the canary has.
func TestShare(t *testing.T) {
	t.Parallel()
	f := start(t, "share", sampleapp.App{Replicas: 2, Canary: following(
		`steps: [{weight: 25, hold: 10s}, {weight: 100, hold: 2s}]`, `skipAnalysis: true`)})
	f.load(200)

	f.release("v2")
	state := f.await("weight 25 is in force", holdingAt(25))
	r := state.LatestRun()
	t.Logf("%d pods of the canary, %d of stable", len(state.UIDs(r.Spec.Candidate.PodTemplateHash)), len(state.UIDs(r.Spec.Stable.PodTemplateHash)))
	f.expectNoFailures()
	// At 2,500 requests chance alone moves the share by less than 3 points, but for 1 in 1,800 times.
	f.expectShare("v2", 25, 3, 28*time.Second)

	f.expectPromoted(f.awaitRun(""))
	f.expectNoFailures()
}
