// SPDX-License-Identifier: Apache-2.0

package mesh

// Ports and user of the proxy, and what the two sides of the mesh agree on.
const (
	PortOutbound = 4140  // takes what the application sends
	PortInbound  = 4143  // takes what comes to the pod
	PortAdmin    = 4191  // metrics and readiness
	ProxyUID     = 20102 // the redirect leaves this user's traffic alone

	// TokenAudience is the audience of the service-account token that proves a pod's identity.
	TokenAudience = "identity.sluice.dev"

	// ALPNHTTP1, ALPNHTTP2 and ALPNTCP are what proxies offer each other: the protocol inside the
	// connection. A connection that offers one of them is between proxies, and its split has been
	// applied. HTTP/2 is offered together with TCP: a proxy that is too old to know it carries it so.
	// ALPNHandoff is TCP that a peer of the own workload passes on, whose caller it has let in.
	ALPNHTTP1   = "sluice-http/1.1"
	ALPNHTTP2   = "sluice-h2"
	ALPNTCP     = "sluice-tcp"
	ALPNHandoff = "sluice-tcp-handoff"

	// HeaderClientID carries the caller's SPIFFE ID to the application; it is removed from what
	// callers send.
	HeaderClientID = "sluice-client-id"
)
