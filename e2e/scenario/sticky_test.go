// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"testing"
	"time"

	"github.com/sluice-mesh/sluice/e2e/sampleapp"
)

// TestSticky: users that are told apart by a cookie are shared by the weight like any others. These
// clients keep no cookies, so each of their requests is a new user's.
func TestSticky(t *testing.T) {
	t.Parallel()
	f := start(t, "sticky", sampleapp.App{Replicas: 2, Canary: following(
		`stickiness: {cookie: {maxAge: 1h}}`, `steps: [{weight: 25, hold: 10s}, {weight: 100, hold: 2s}]`, `skipAnalysis: true`)}, 200)

	f.release("v2")
	f.await("weight 25 is in force", holdingAt(25))
	f.expectShare("v2", 25, 3, 27*time.Second)

	f.expectPromoted(f.awaitRun(""))
	f.expectNoFailures()
}
