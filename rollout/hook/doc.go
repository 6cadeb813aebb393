// SPDX-License-Identifier: Apache-2.0

// Package hook sends signed requests to addresses that tenants name, outside of any reconciliation:
// a bounded number of workers take them from a queue, and answers are kept until they are looked at.
//
// What was asked and not answered when the process ends is asked again by the next one, with the same
// idempotency key: at least once, never exactly once.
//
// It must not decide what an answer means, and never keeps or shows what a response's body says.
package hook
