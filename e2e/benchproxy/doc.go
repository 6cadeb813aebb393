// SPDX-License-Identifier: Apache-2.0

// Command benchproxy measures one plaintext HTTP/1.1 hop of the shipped sluice-proxy beside nginx and
// HAProxy, in a network namespace of its own: closed loop, 1 KB of content, some numbers of
// connections, rounds in which each contender has its turn.
//
// Our side runs as an injected pod does: redirected by nftables, the protocol detected, metrics on, a
// split of two revisions in force. The peers are tuned; config/ says why for each directive. It writes
// build/results/bench-proxy.json and docs/benchmarks/proxy.md.
//
// It must not be believed on a machine that is doing something else; it says in the table when it was.
package main
