// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"testing"
	"time"

	"github.com/sluice-mesh/sluice/e2e/sampleapp"
)

// TestFine: half a percent of the requests is half a percent of the answers. So few requests would keep
// the gate waiting for minutes, and it is not what is tried here.
func TestFine(t *testing.T) {
	t.Parallel()
	f := start(t, "fine", sampleapp.App{Replicas: 2, Canary: following(
		`totalWeight: 1000`, `steps: [{weight: 5, hold: 10s}, {weight: 1000, hold: 2s}]`, `skipAnalysis: true`)})
	f.load(300)

	f.release("v2")
	f.await("weight 5 of 1000 is in force", holdingAt(5))
	// Of 3,750 requests of each client some 19 are the canary's; chance takes it out of this once in 10,000 times.
	f.expectShare("v2", 0.5, 0.46, 25*time.Second)

	f.expectPromoted(f.awaitRun(""))
	f.expectNoFailures()
}
