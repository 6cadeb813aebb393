// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-mesh/sluice/mesh"
)

// Names of what is injected.
const (
	ProxyContainer    = "sluice-proxy"
	RedirectContainer = "sluice-redirect"
	// AdminPortName is the name of the proxy's metrics port; scrape configurations keep ports by it.
	AdminPortName = "sluice-admin"

	tokenVolumeName = "sluice-token"
	tokenDirectory  = "/var/run/secrets/sluice.dev"
	tokenFile       = "token"
	tokenSeconds    = 3600

	// What the proxy keeps for its next start is in memory: a key must not outlive the pod on a disk.
	stateVolumeName = "sluice-state"
	stateDirectory  = "/var/lib/sluice"
	stateMost       = "32Mi"

	// startSeconds is how long a proxy may take to get its identity and first configuration before
	// the kubelet starts it anew. Until then nothing else in the pod starts.
	startSeconds = 120
)

// DefaultProxyResources are enough for a sidecar at rest; there are no limits, so that a busy proxy is
// slowed by nothing but its node.
func DefaultProxyResources() corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("10m"),
		corev1.ResourceMemory: resource.MustParse("20Mi"),
	}}
}

// redirectContainer runs before everything else in the pod, so that no container, not even an init
// container of the user's, ever speaks past the proxy.
func redirectContainer(config Config, skip ports) corev1.Container {
	container := corev1.Container{
		Name:            RedirectContainer,
		Image:           config.ProxyImage,
		ImagePullPolicy: config.ProxyImagePullPolicy,
		Command:         []string{"/sluice-redirect"},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("10m"),
			corev1.ResourceMemory: resource.MustParse("20Mi"),
		}},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		// A process has its added capabilities in effect only as root: Kubernetes sets no ambient ones.
		SecurityContext: securityContext(0, "NET_ADMIN"),
	}
	if skip.inbound != "" {
		container.Args = append(container.Args, "--skip-inbound-ports="+skip.inbound)
	}
	if skip.outbound != "" {
		container.Args = append(container.Args, "--skip-outbound-ports="+skip.outbound)
	}
	return container
}

// proxyContainer is a native sidecar: it starts before the pod's other containers, is ready before
// they start, and ends after them.
func proxyContainer(config Config, of asked) corev1.Container {
	always := corev1.ContainerRestartPolicyAlways
	return corev1.Container{
		Name:                     ProxyContainer,
		Image:                    config.ProxyImage,
		ImagePullPolicy:          config.ProxyImagePullPolicy,
		Command:                  []string{"/sluice-proxy"},
		RestartPolicy:            &always,
		Env:                      environment(config, of),
		Ports:                    []corev1.ContainerPort{{Name: AdminPortName, ContainerPort: mesh.PortAdmin, Protocol: corev1.ProtocolTCP}},
		Resources:                *config.ProxyResources.DeepCopy(),
		StartupProbe:             readyProbe(1, startSeconds),
		ReadinessProbe:           readyProbe(2, 3),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		VolumeMounts: []corev1.VolumeMount{
			{Name: tokenVolumeName, MountPath: tokenDirectory, ReadOnly: true},
			{Name: stateVolumeName, MountPath: stateDirectory},
		},
		SecurityContext: securityContext(mesh.ProxyUID),
	}
}

func environment(config Config, of asked) []corev1.EnvVar {
	variables := []corev1.EnvVar{
		field("SLUICE_POD_NAMESPACE", "metadata.namespace"),
		field("SLUICE_POD_NAME", "metadata.name"),
		field("SLUICE_POD_IP", "status.podIP"),
		field("SLUICE_SERVICE_ACCOUNT", "spec.serviceAccountName"),
		{Name: "SLUICE_TRUST_DOMAIN", Value: config.TrustDomain},
		{Name: "SLUICE_TRUST_ANCHORS", Value: config.TrustAnchors},
		{Name: "SLUICE_CONTROL_PLANE", Value: config.ControlPlane},
		{Name: "SLUICE_CONTROL_PLANE_IDENTITY", Value: config.ControlPlaneIdentity},
		{Name: "SLUICE_TOKEN_FILE", Value: path.Join(tokenDirectory, tokenFile)},
		{Name: "SLUICE_STATE_DIRECTORY", Value: stateDirectory},
	}
	for _, setting := range []corev1.EnvVar{
		{Name: "SLUICE_GOMAXPROCS", Value: of.processors},
		{Name: "SLUICE_ACCESS_LOG", Value: of.accessLog},
		{Name: "SLUICE_TRACING", Value: of.tracing},
	} {
		if setting.Value != "" {
			variables = append(variables, setting)
		}
	}
	return variables
}

// field names the version as well, as the API server would fill it in: what is injected twice, or
// compared with what runs, is then equal.
func field(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path},
	}}
}

func readyProbe(periodSeconds, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: "/ready", Port: intstr.FromInt32(mesh.PortAdmin),
		}},
		PeriodSeconds:    periodSeconds,
		FailureThreshold: failures,
		TimeoutSeconds:   1,
	}
}

// securityContext says everything itself, so that what a pod sets for its own containers, such as
// runAsNonRoot, does not change how these two run.
func securityContext(user int64, capabilities ...corev1.Capability) *corev1.SecurityContext {
	yes, no := true, false
	nonRoot := user != 0
	return &corev1.SecurityContext{
		RunAsUser:                &user,
		RunAsGroup:               &user,
		RunAsNonRoot:             &nonRoot,
		ReadOnlyRootFilesystem:   &yes,
		AllowPrivilegeEscalation: &no,
		Privileged:               &no,
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: capabilities},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// tokenVolume proves the pod's service account to the mesh and to nothing else: the audience makes
// the token useless at the API server.
func tokenVolume() corev1.Volume {
	seconds, mode := int64(tokenSeconds), int32(0o444)
	return corev1.Volume{Name: tokenVolumeName, VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: &mode,
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: mesh.TokenAudience, ExpirationSeconds: &seconds, Path: tokenFile,
			}}},
		},
	}}
}

// stateVolume is where the proxy keeps what it knows. It is as long-lived as the pod.
func stateVolume() corev1.Volume {
	most := resource.MustParse(stateMost)
	return corev1.Volume{Name: stateVolumeName, VolumeSource: corev1.VolumeSource{
		EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &most},
	}}
}
