// SPDX-License-Identifier: Apache-2.0

// Package rollout moves a Deployment from its stable to its canary revision by handing ReplicaSets
// over in place: the pods that were analysed are the pods that stay.
//
// Reconcile is observe (cluster -> Observed) -> plan (PURE: Canary, Observed, now -> Decision) ->
// effects -> one status write. Everything that decides is in the files of plan; everything that acts
// is short and dumb. A Decision repeats no effect whose result was observed, and moves to the next
// phase only on what was observed, so that a crash after any write resumes.
//
// It must not import mesh or proxy: the mesh is met through TrafficSplit objects only. It never
// writes spec.replicas of a Deployment, and nothing of a Service or a route.
package rollout
