// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-mesh/sluice/mesh"
	"github.com/sluice-mesh/sluice/mesh/redirect"
)

// Annotations of a pod by which people keep ports out of the mesh, as "25,8000-8080".
const (
	AnnotationSkipInboundPorts  = "sluice.dev/skip-inbound-ports"
	AnnotationSkipOutboundPorts = "sluice.dev/skip-outbound-ports"
)

const (
	// AnnotationProxyProcessors of a pod is how many processors its proxy may use at once.
	AnnotationProxyProcessors = "sluice.dev/proxy-gomaxprocs"
	processorsMost            = 256
)

// AnnotationProxyAccessLog of a pod has its proxy write an access log: "json" or "apache", either with
// "+query".
const AnnotationProxyAccessLog = "sluice.dev/proxy-access-log"

// AnnotationProxyTracing of a pod has its proxy trace requests: the URL of a collector, with the ratio of the
// requests for which a trace is begun.
const AnnotationProxyTracing = "sluice.dev/proxy-tracing"

// ports that are not redirected, in the form of sluice-redirect's flags.
type ports struct {
	inbound, outbound string
}

// cannot says why a pod that should be meshed cannot be, or nothing.
func cannot(pod *corev1.Pod) string {
	if pod.Spec.HostNetwork {
		return "spec.hostNetwork is true: the redirect would take the whole node's traffic"
	}
	if pod.Spec.OS != nil && pod.Spec.OS.Name != corev1.Linux {
		return fmt.Sprintf("spec.os.name is %s: the proxy runs on linux only", pod.Spec.OS.Name)
	}
	if runsAsProxy(pod.Spec.SecurityContext) {
		return fmt.Sprintf("spec.securityContext.runAsUser is %d: that is the proxy's own user, whose traffic is not redirected; use another", mesh.ProxyUID)
	}
	for _, volume := range pod.Spec.Volumes {
		if volume.Name == tokenVolumeName || volume.Name == stateVolumeName {
			return fmt.Sprintf("a volume is named %s, as the proxy's own; rename it", volume.Name)
		}
	}
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if reason := containerCannot(container); reason != "" {
			return reason
		}
	}
	return ""
}

func containerCannot(container corev1.Container) string {
	if container.Name == ProxyContainer || container.Name == RedirectContainer {
		return fmt.Sprintf("a container is named %s, as one of the mesh's own; rename it", container.Name)
	}
	if user := container.SecurityContext; user != nil && user.RunAsUser != nil && *user.RunAsUser == mesh.ProxyUID {
		return fmt.Sprintf("container %s runs as user %d: that is the proxy's own user, whose traffic is not redirected; use another", container.Name, mesh.ProxyUID)
	}
	for _, port := range container.Ports {
		switch port.ContainerPort {
		case mesh.PortInbound, mesh.PortOutbound, mesh.PortAdmin:
			return fmt.Sprintf("container %s listens on port %d: that is one of the proxy's own ports; use another", container.Name, port.ContainerPort)
		}
	}
	return ""
}

func runsAsProxy(context *corev1.PodSecurityContext) bool {
	return context != nil && context.RunAsUser != nil && *context.RunAsUser == mesh.ProxyUID
}

func skippedPorts(annotations map[string]string) (skip ports, refusal string) {
	for _, list := range []struct {
		annotation string
		target     *string
	}{
		{AnnotationSkipInboundPorts, &skip.inbound},
		{AnnotationSkipOutboundPorts, &skip.outbound},
	} {
		ranges, err := redirect.ParsePorts(annotations[list.annotation])
		if err != nil {
			return ports{}, fmt.Sprintf("metadata.annotations[%s]: %v", list.annotation, err)
		}
		*list.target = redirect.FormatPorts(ranges)
	}
	return skip, ""
}

// asked is what a pod's annotations ask of its proxy, as the proxy's environment has it. What is empty is
// not set.
type asked struct {
	processors, accessLog, tracing string
}

func askedOfProxy(annotations map[string]string) (of asked, refusal string) {
	if of.processors, refusal = proxyProcessors(annotations); refusal != "" {
		return asked{}, refusal
	}
	if of.accessLog, refusal = proxyAccessLog(annotations); refusal != "" {
		return asked{}, refusal
	}
	if of.tracing, refusal = proxyTracing(annotations); refusal != "" {
		return asked{}, refusal
	}
	return of, ""
}

// proxyProcessors is how many processors a pod's proxy may use, empty for the default.
func proxyProcessors(annotations map[string]string) (processors, refusal string) {
	written, ok := annotations[AnnotationProxyProcessors]
	if !ok {
		return "", ""
	}
	number, err := strconv.Atoi(written)
	if err != nil || number < 1 || number > processorsMost {
		return "", fmt.Sprintf("metadata.annotations[%s]: %q is not a number from 1 to %d", AnnotationProxyProcessors, written, processorsMost)
	}
	return strconv.Itoa(number), ""
}

// proxyAccessLog is the access log that a pod's proxy writes, empty for none.
func proxyAccessLog(annotations map[string]string) (written, refusal string) {
	text, ok := annotations[AnnotationProxyAccessLog]
	if !ok {
		return "", ""
	}
	parsed, err := mesh.ParseAccessLog(text)
	if err != nil {
		return "", fmt.Sprintf("metadata.annotations[%s]: %v", AnnotationProxyAccessLog, err)
	}
	return parsed.String(), ""
}

// proxyTracing is where a pod's proxy sends spans, empty for nowhere.
func proxyTracing(annotations map[string]string) (written, refusal string) {
	text, ok := annotations[AnnotationProxyTracing]
	if !ok {
		return "", ""
	}
	parsed, err := mesh.ParseTracing(text)
	if err != nil {
		return "", fmt.Sprintf("metadata.annotations[%s]: %v", AnnotationProxyTracing, err)
	}
	return parsed.String(), ""
}
