// SPDX-License-Identifier: Apache-2.0

//go:build soak

package proxy_test

import "time"

const (
	soakTime = 10 * time.Minute
	soakIdle = 2 * time.Second
)
