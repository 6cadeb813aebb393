// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// HoldPath is where the hold's webhook is served.
const HoldPath = "/hold"

// HoldHandler is the hold as a mutating webhook, for clusters that do not serve
// MutatingAdmissionPolicy v1.
func HoldHandler(scheme *runtime.Scheme) http.Handler {
	return &admission.Webhook{Handler: &holder{decoder: admission.NewDecoder(scheme)}}
}

type holder struct {
	decoder admission.Decoder
}

// Handle answers one admission request.
func (h *holder) Handle(_ context.Context, request admission.Request) admission.Response {
	if request.Operation != admissionv1.Update {
		return admission.Allowed("only updates are held")
	}
	old, updated := &appsv1.Deployment{}, &appsv1.Deployment{}
	if err := h.decoder.DecodeRaw(request.OldObject, old); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if err := h.decoder.DecodeRaw(request.Object, updated); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	decision := Hold(old, updated)
	if !decision.Pause {
		return admission.Allowed("")
	}
	patches := []webhook.JSONPatchOp{{Operation: "add", Path: "/spec/paused", Value: true}}
	if decision.Label != "" {
		patches = append(patches, holdLabel(updated, decision.Label))
	}
	return admission.Patched("held: the pod template changes", patches...)
}

// holdLabel adds the label, and the map if it is the first.
func holdLabel(updated *appsv1.Deployment, value string) webhook.JSONPatchOp {
	if len(updated.Labels) == 0 {
		return webhook.JSONPatchOp{Operation: "add", Path: "/metadata/labels", Value: map[string]string{v1alpha1.LabelHold: value}}
	}
	// The slash of the label's name is written ~1 in a JSON pointer.
	path := "/metadata/labels/" + strings.ReplaceAll(v1alpha1.LabelHold, "/", "~1")
	return webhook.JSONPatchOp{Operation: "add", Path: path, Value: value}
}
