// SPDX-License-Identifier: Apache-2.0

// Package proxy is the data plane: the sidecar that carries a pod's traffic. It takes what the
// application sends (outbound) and what comes to the pod (inbound), shares requests between the
// revisions of a workload by the weights it was given, speaks mutual TLS with other proxies, counts
// what happens and says so.
//
// In the order of a request: listen.go accepts and origdst_linux.go asks the kernel where the
// connection was going; sniff.go looks at what is spoken; outbound.go and inbound.go say what the
// two sides do with it; config.go knows the way, route.go draws, routes.go keeps the order of the
// endpoints, balance.go claims one; client.go reads requests, exchange.go carries one and tcp.go a
// connection; link.go is a connection that carries requests on, pool.go keeps those that are idle;
// upstream.go dials and tls.go demands who must answer; metrics.go counts. The messages themselves are
// read and written by http1.
//
// It must never lose a request that another endpoint could have answered, never wait for the control
// plane on the path of a request whose way it knows, never send a request again that an application
// may have seen (retry.go says how it knows), and never talk to the Kubernetes API.
package proxy
