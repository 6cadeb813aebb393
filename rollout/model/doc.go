// SPDX-License-Identifier: Apache-2.0

// Package model tries rollout.Plan in every world that a small cluster can get into. It holds an
// abstract cluster (a Deployment and its controller, ReplicaSets and their pods, the hold of
// admission, a mesh that acknowledges when it likes, a gate that says anything, people who do
// anything) and an exhaustive search over it, with the controller dying at every write and with
// others writing between its read and its writes.
//
// A State is small, comparable and in normal form: names, run numbers, templates and times are told
// apart only as far as Plan and the Deployment controller can. A search counts disturbances: what
// people, failures and crashes do costs one, what the cluster does by itself costs nothing. It is
// complete for all worlds that a number of disturbances, at any instants, can lead to.
//
// Something new in plan needs: a field of State if it is remembered, a line in observe or carryOut
// if it is seen or done, an event if it happens by itself, and an invariant. A phase, effect or
// outcome that is not known here fails the search.
package model
