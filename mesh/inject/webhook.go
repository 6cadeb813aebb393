// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// Where the API server calls the injector, and the name of the configuration that makes it do so.
const (
	WebhookPath          = "/inject"
	WebhookConfiguration = "sluice-injector"
)

// Webhook answers the API server's question what to do with a pod that is being created.
type Webhook struct {
	// Reader reads namespaces, metadata only.
	Reader client.Reader
	// Config is asked for each pod: trust anchors change while the program runs.
	Config func() Config
}

// The caBundle of the injector's own configuration is filled in at run time.
//
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=mutatingwebhookconfigurations,resourceNames=sluice-injector,verbs=get;patch

// Handle implements admission.Handler.
func (w *Webhook) Handle(ctx context.Context, request admission.Request) admission.Response {
	if request.Operation != admissionv1.Create || request.SubResource != "" {
		return admission.Allowed("")
	}
	var pod corev1.Pod
	if err := json.Unmarshal(request.Object.Raw, &pod); err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("read pod: %w", err))
	}
	var namespace metav1.PartialObjectMetadata
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := w.Reader.Get(ctx, client.ObjectKey{Name: request.Namespace}, &namespace); err != nil {
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("read namespace %s: %w", request.Namespace, err))
	}
	decision := Decide(&pod, request.Namespace, namespace.Labels, w.Config())
	switch {
	case decision.Refused != "":
		logf.FromContext(ctx).Info("pod refused", "namespace", request.Namespace, "pod", podName(&pod), "reason", decision.Refused)
		return admission.Denied(refusal(decision.Refused))
	case decision.Mutation == nil:
		return admission.Allowed(decision.Skipped)
	}
	patch, err := json.Marshal(decision.Mutation.Operations(&pod))
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("write patch: %w", err))
	}
	patchType := admissionv1.PatchTypeJSONPatch
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{
		Allowed: true, Patch: patch, PatchType: &patchType,
	}}
}

// refusal is what the person reads who created the pod, or the events of its ReplicaSet.
func refusal(reason string) string {
	return fmt.Sprintf("sluice cannot mesh this pod: %s; or run it outside the mesh with the pod label %s: %s",
		reason, v1alpha1.LabelInject, v1alpha1.InjectDisabled)
}

func podName(pod *corev1.Pod) string {
	if pod.Name == "" {
		return pod.GenerateName
	}
	return pod.Name
}
