// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// StampPath is where the webhook that writes approvers is served.
const StampPath = "/stamp"

// StampHandler writes into each new Approval who makes it, for clusters that do not serve
// MutatingAdmissionPolicy v1. config/webhook/approval-policy.yaml says the same in CEL.
func StampHandler() http.Handler {
	return &admission.Webhook{Handler: admission.HandlerFunc(stampApproval)}
}

func stampApproval(_ context.Context, request admission.Request) admission.Response {
	if request.Operation != admissionv1.Create {
		return admission.Allowed("only creation is stamped")
	}
	// In a JSON patch, add replaces what is there: nothing that was sent is kept.
	return admission.Patched("stamped", webhook.JSONPatchOp{Operation: "add", Path: "/approver", Value: v1alpha1.Approver{
		Username: request.UserInfo.Username, Groups: request.UserInfo.Groups,
	}})
}
