// SPDX-License-Identifier: Apache-2.0

//go:build e2e && whole

package scenario

import "time"

// The whole form, make e2e-whole: one scenario after the other, each with at least so many requests/s,
// while Flux looks every few seconds; and the scenarios that take minutes.
const (
	leastRate    = 300
	fluxInterval = 5 * time.Second
)
