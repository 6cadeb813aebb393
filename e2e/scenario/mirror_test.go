// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"testing"
	"time"

	"github.com/sluice-mesh/sluice/e2e/sampleapp"
)

// TestMirror: a version that fails every second request gets copies of all that is safe, and nobody
// notices. With its first weight the gate does.
func TestMirror(t *testing.T) {
	t.Parallel()
	f := start(t, "mirror", sampleapp.App{Replicas: 2, Canary: following(
		`steps: [{mirror: {percent: 100}, hold: 15s}, {weight: 25, hold: 5s}, {weight: 100, hold: 5s}]`)}, 100)

	f.release("v2", sampleapp.Faulty(50))
	f.await("requests are copied", holdingAt(0))
	f.linger(10 * time.Second)
	f.expectNoFailures()

	f.expectRolledBack(f.awaitRun(""))
	f.expectNoFailures("v2")
}
