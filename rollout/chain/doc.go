// SPDX-License-Identifier: Apache-2.0

// Package chain makes the record of a run tamper-evident. It is PURE.
//
// Each entry carries a hash over the hash before it and over its own content; the first continues
// from the run's name and spec. The last hash, the head, is signed. Whoever knows a head that was
// exported (an event, a notification) can tell that nothing up to it was changed, dropped, added or
// put in another order.
//
// What is bulky, measurements and hooks' answers, enters the hash by its digest. It may be dropped
// later and the chain still holds; the signature says how much was.
//
// A field that is added to a run's spec or to an entry must be left out of the JSON when it is empty,
// else the hashes of all older records change.
//
// It must not read a cluster, a clock or a key from anywhere: all are parameters.
package chain
