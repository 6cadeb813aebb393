// SPDX-License-Identifier: Apache-2.0

package discovery

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-mesh/sluice/mesh"
)

// protocolOf reads what a Service says of its port: appProtocol first, then the first word of the
// port's name. What is said but not known is looked at by the proxy, as what is not said.
func protocolOf(port *corev1.ServicePort) mesh.Protocol {
	if port.AppProtocol != nil {
		switch strings.ToLower(*port.AppProtocol) {
		case "http", "kubernetes.io/ws", "kubernetes.io/h2c":
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
