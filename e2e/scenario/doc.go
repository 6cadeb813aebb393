// SPDX-License-Identifier: Apache-2.0

// Package scenario plays releases on a real cluster, synced by the real Flux from a real Git
// repository, under load from a meshed and an unmeshed client that count every failure, and says
// what must come of them. Run it with
//
//	go test -tags e2e ./e2e/scenario        (root, Linux; or make e2e)
//
// A cluster that is up before is used and left up; one that the tests bring up is removed, unless
// SLUICE_KEEP_CLUSTER is set. Of a scenario that fails, what it saw is written to build/e2e/<name>.
//
// One file per scenario; bed.go holds what all share, fixture.go what each has of its own, expect.go
// what can be expected. A scenario has its namespace, its path in Git and its Kustomization, so
// none sees another. It must not reach into Sluice: it acts through Git and kubectl's verbs and
// reads objects, counters and Flux's log.
package scenario
