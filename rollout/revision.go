// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"encoding/json"
	"fmt"
	"hash/fnv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// restartAnnotations are written by people and programs that want pods restarted. A template change
// of nothing else is a restart: spec.restart says whether it is a release. The admission rules in config/webhook list them too,
// and a test compares.
func restartAnnotations() []string {
	return []string{
		"kubectl.kubernetes.io/restartedAt",
		"reloader.stakater.com/last-reloaded-from",
		"sluice.dev/restartedAt",
	}
}

// sameTemplate is the equality by which the Deployment controller recognises a ReplicaSet as its
// own: semantic, without the hash label.
func sameTemplate(a, b corev1.PodTemplateSpec) bool {
	return apiequality.Semantic.DeepEqual(withoutHash(a), withoutHash(b))
}

// sameRelease says whether two templates are the same thing to release: restarts aside, and with
// what the API server fills in by itself counted as nothing, so that a template kept by an older
// Kubernetes equals the same one read from a newer.
func sameRelease(a, b corev1.PodTemplateSpec) bool {
	return apiequality.Semantic.DeepEqual(released(a), released(b))
}

// sameRevision is sameRelease with restarts counted.
func sameRevision(a, b corev1.PodTemplateSpec) bool {
	return apiequality.Semantic.DeepEqual(normalized(a), normalized(b))
}

func withoutHash(template corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	out := template.DeepCopy()
	delete(out.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return out
}

func released(template corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	out := normalized(template)
	for _, key := range restartAnnotations() {
		delete(out.Annotations, key)
	}
	return out
}

func normalized(template corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	out := withoutHash(template)
	out.CreationTimestamp.Reset()
	clearDefaults(&out.Spec)
	return out
}

// clearDefaults empties the fields that hold exactly what the API server writes when they are empty.
func clearDefaults(spec *corev1.PodSpec) {
	clearEqual(&spec.RestartPolicy, corev1.RestartPolicyAlways)
	clearEqual(&spec.DNSPolicy, corev1.DNSClusterFirst)
	clearEqual(&spec.SchedulerName, corev1.DefaultSchedulerName)
	clearPointer(&spec.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
	clearPointer(&spec.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	clearPointer(&spec.SecurityContext, corev1.PodSecurityContext{})
	// serviceAccount is the deprecated copy of serviceAccountName.
	spec.DeprecatedServiceAccount = ""
	for i := range spec.InitContainers {
		clearContainerDefaults(&spec.InitContainers[i])
	}
	for i := range spec.Containers {
		clearContainerDefaults(&spec.Containers[i])
	}
	for i := range spec.Volumes {
		clearVolumeDefaults(&spec.Volumes[i])
	}
}

func clearContainerDefaults(container *corev1.Container) {
	clearEqual(&container.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	clearEqual(&container.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	// The default of the pull policy depends on the image, which is compared anyway; a change of
	// the policy alone still counts when it is not to or from the default for a tag.
	clearEqual(&container.ImagePullPolicy, corev1.PullIfNotPresent)
	for i := range container.Ports {
		clearEqual(&container.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range container.Env {
		if source := container.Env[i].ValueFrom; source != nil && source.FieldRef != nil {
			clearEqual(&source.FieldRef.APIVersion, "v1")
		}
	}
	for _, probe := range []*corev1.Probe{container.LivenessProbe, container.ReadinessProbe, container.StartupProbe} {
		clearProbeDefaults(probe)
	}
}

func clearProbeDefaults(probe *corev1.Probe) {
	if probe == nil {
		return
	}
	clearEqual(&probe.TimeoutSeconds, 1)
	clearEqual(&probe.PeriodSeconds, 10)
	clearEqual(&probe.SuccessThreshold, 1)
	clearEqual(&probe.FailureThreshold, 3)
	if probe.HTTPGet != nil {
		clearEqual(&probe.HTTPGet.Scheme, corev1.URISchemeHTTP)
		clearEqual(&probe.HTTPGet.Path, "/")
	}
	if probe.GRPC != nil {
		clearPointer(&probe.GRPC.Service, "")
	}
}

func clearVolumeDefaults(volume *corev1.Volume) {
	if volume.ConfigMap != nil {
		clearPointer(&volume.ConfigMap.DefaultMode, corev1.ConfigMapVolumeSourceDefaultMode)
	}
	if volume.Secret != nil {
		clearPointer(&volume.Secret.DefaultMode, corev1.SecretVolumeSourceDefaultMode)
	}
	if volume.DownwardAPI != nil {
		clearPointer(&volume.DownwardAPI.DefaultMode, corev1.DownwardAPIVolumeSourceDefaultMode)
	}
	if volume.Projected != nil {
		clearPointer(&volume.Projected.DefaultMode, corev1.ProjectedVolumeSourceDefaultMode)
	}
}

func clearEqual[T comparable](field *T, value T) {
	if *field == value {
		var zero T
		*field = zero
	}
}

func clearPointer[T any](field **T, value T) {
	if *field != nil && apiequality.Semantic.DeepEqual(**field, value) {
		*field = nil
	}
}

// revisionOf records a revision whole, so that its ReplicaSet can be made again.
func revisionOf(set, hash string, template corev1.PodTemplateSpec) (v1alpha1.RunRevision, error) {
	raw, err := json.Marshal(withoutHash(template))
	if err != nil {
		return v1alpha1.RunRevision{}, fmt.Errorf("encode the template of %s: %w", set, err)
	}
	images := map[string]string{}
	for _, container := range template.Spec.Containers {
		images[container.Name] = container.Image
	}
	return v1alpha1.RunRevision{
		ReplicaSet: set, PodTemplateHash: hash, Template: runtime.RawExtension{Raw: raw}, Images: images,
	}, nil
}

// templateOf reads a recorded template back. A record that cannot be read equals nothing.
func templateOf(revision v1alpha1.RunRevision) (corev1.PodTemplateSpec, bool) {
	var template corev1.PodTemplateSpec
	if err := json.Unmarshal(revision.Template.Raw, &template); err != nil {
		return template, false
	}
	return template, true
}

// recordedSame compares a recorded revision with a template.
func recordedSame(revision v1alpha1.RunRevision, template corev1.PodTemplateSpec) bool {
	recorded, ok := templateOf(revision)
	return ok && sameRelease(recorded, template)
}

// newHash makes the pod-template-hash for a set that a run creates. It only has to be new: what a
// revision is, is decided by comparing templates, never by a hash.
func newHash(run string, generation int64) string {
	sum := fnv.New32a()
	_, _ = fmt.Fprintf(sum, "%s/%d", run, generation)
	return rand.SafeEncodeString(fmt.Sprint(sum.Sum32()))
}
