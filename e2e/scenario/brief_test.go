// SPDX-License-Identifier: Apache-2.0

//go:build e2e && !whole

package scenario

// The brief form, which is part of make test: each scenario has the load that it needs and no more.
const (
	leastRate    = 0
	fluxInterval = 0 // the default
)
