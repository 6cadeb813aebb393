// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-mesh/sluice/mesh"
)

// appProtocolHTTP2 is Kubernetes' name for HTTP/2 without TLS and without asking first (KEP-3726).
const appProtocolHTTP2 = "kubernetes.io/h2c"

// isHTTP2 says that a port is declared to speak HTTP/2. It may speak HTTP/1.1 as well, but nobody says so.
func isHTTP2(port *corev1.ServicePort) bool {
	return strings.EqualFold(deref(port.AppProtocol), appProtocolHTTP2)
}

// protocolOf reads what a Service says of its port: appProtocol first, then the first word of the
// port's name. What is said but not known is looked at by the proxy, as what is not said.
func protocolOf(port *corev1.ServicePort) mesh.Protocol {
	if port.AppProtocol != nil {
		switch strings.ToLower(*port.AppProtocol) {
		case "http", "kubernetes.io/ws", appProtocolHTTP2:
			// gRPC is not among them: it may be within TLS.
			return mesh.ProtocolHTTP1
		case "tcp", "tls", "https", "kubernetes.io/wss":
			return mesh.ProtocolTCP // Encrypted by the application: bytes to us.
		default:
			return mesh.ProtocolDetect
		}
	}
	word, _, _ := strings.Cut(port.Name, "-")
	switch word {
	case "http":
		return mesh.ProtocolHTTP1
	case "tcp", "tls", "https":
		return mesh.ProtocolTCP
	default:
		return mesh.ProtocolDetect
	}
}
