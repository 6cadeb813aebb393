// SPDX-License-Identifier: Apache-2.0

//go:build !soak

package proxy_test

import "time"

// What `make test` has the time for; `make soak` runs the same whole.
const (
	soakTime = 3 * time.Second
	soakIdle = 100 * time.Millisecond
)
