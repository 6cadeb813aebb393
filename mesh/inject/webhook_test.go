// SPDX-License-Identifier: Apache-2.0

package inject_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/sluice-mesh/sluice/mesh/inject"
)

// namespaces answers with labels by the namespace's name.
type namespaces struct {
	client.Reader
	labels map[string]map[string]string
}

func (n namespaces) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	labels, found := n.labels[key.Name]
	if !found {
		return errors.New("no such namespace")
	}
	object.(*metav1.PartialObjectMetadata).SetLabels(labels)
	return nil
}

func TestWebhook(t *testing.T) {
	webhook := &inject.Webhook{
		Reader: namespaces{labels: map[string]map[string]string{"shop": {"sluice.dev/inject": "enabled"}, "plain": nil}},
		Config: testConfig,
	}
	good := corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}}
	hostNetwork := corev1.Pod{Spec: corev1.PodSpec{HostNetwork: true}}
	for _, test := range []struct {
		name      string
		pod       any
		namespace string
		operation admissionv1.Operation
		allowed   bool
		patched   bool
		code      int32
		message   string
	}{
		{name: "meshed", pod: good, namespace: "shop", operation: admissionv1.Create, allowed: true, patched: true},
		{name: "not meshed", pod: good, namespace: "plain", operation: admissionv1.Create, allowed: true, code: http.StatusOK,
			message: "neither the pod nor its namespace has the label sluice.dev/inject: enabled"},
		{name: "update", pod: good, namespace: "shop", operation: admissionv1.Update, allowed: true, code: http.StatusOK},
		{name: "refused", pod: hostNetwork, namespace: "shop", operation: admissionv1.Create, code: http.StatusForbidden,
			message: "sluice cannot mesh this pod: spec.hostNetwork is true: the redirect would take the whole node's traffic; or run it outside the mesh with the pod label sluice.dev/inject: disabled"},
		{name: "not a pod", pod: "text", namespace: "shop", operation: admissionv1.Create, code: http.StatusBadRequest,
			message: "read pod: json: cannot unmarshal string into Go value of type v1.Pod"},
		{name: "namespace unknown", pod: good, namespace: "none", operation: admissionv1.Create, code: http.StatusInternalServerError,
			message: "read namespace none: no such namespace"},
	} {
		t.Run(test.name, func(t *testing.T) {
			raw, err := json.Marshal(test.pod)
			require.NoError(t, err)
			response := webhook.Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
				Namespace: test.namespace, Operation: test.operation, Object: runtime.RawExtension{Raw: raw},
			}})
			require.Equal(t, test.allowed, response.Allowed)
			require.Equal(t, test.patched, len(response.Patch) > 0)
			if test.code != 0 {
				require.Equal(t, test.code, response.Result.Code)
				require.Equal(t, test.message, response.Result.Message)
			}
		})
	}
}
