// SPDX-License-Identifier: Apache-2.0

// Command benchrollout measures the shipped controller with thousands of Canaries: what it asks of the
// API server and of Prometheus, what it costs, how long its reconciliations take and wait, and how soon
// traffic is taken back after an abort, a bad response and a revert in Git.
//
// The API server, etcd, Prometheus, the admission policy that holds a changed template and the
// controller are the real programs. Played are, in play.go, what Deployments and ReplicaSets need (their
// pods are ready at once, and there are none) and the mesh's acknowledgement (two proxies, at once); in
// exporter.go, what the proxies' metrics say. All of it shares the machine with what is measured.
//
// It writes build/results/bench-rollout.json and docs/benchmarks/rollout.md.
package main
