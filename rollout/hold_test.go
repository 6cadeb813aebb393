// SPDX-License-Identifier: Apache-2.0

package rollout_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
	"github.com/sluice-mesh/sluice/rollout/rollouttest"
)

func TestHold(t *testing.T) {
	for _, c := range holdCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			decision := rollout.Hold(c.Old, c.New)
			require.Equal(t, c.Paused, c.New.Spec.Paused || decision.Pause)
			hold := c.New.Labels[v1alpha1.LabelHold]
			if decision.Label != "" {
				hold = decision.Label
			}
			require.Equal(t, c.Hold, hold)
		})
	}
}

func TestHoldWebhook(t *testing.T) {
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	server := httptest.NewServer(rollout.HoldHandler(scheme))
	t.Cleanup(server.Close)
	for _, c := range holdCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			answered := review(t, server.URL, c.Old, c.New)
			require.Equal(t, c.Paused, answered.Spec.Paused)
			require.Equal(t, c.Hold, answered.Labels[v1alpha1.LabelHold])
		})
	}
}

// The list of annotations that only restart is written twice: here, and in CEL.
func TestHoldPolicyKnowsTheSameRestarts(t *testing.T) {
	policy, err := os.ReadFile("../config/webhook/hold-policy.yaml")
	require.NoError(t, err)
	var quoted []string
	for _, key := range rollout.RestartAnnotations() {
		quoted = append(quoted, "'"+key+"'")
	}
	require.Contains(t, string(policy), "["+strings.Join(quoted, ", ")+"]")
}

func holdCases(t *testing.T) []rollouttest.HoldCase {
	t.Helper()
	cases, err := rollouttest.HoldCases("testdata/hold")
	require.NoError(t, err)
	for i := range cases {
		if cases[i].Deleting {
			now := metav1.Now()
			cases[i].New.DeletionTimestamp = &now
		}
	}
	return cases
}

// review sends an update to the webhook as an API server does, and applies what it answers.
func review(t *testing.T, url string, old, updated *appsv1.Deployment) *appsv1.Deployment {
	t.Helper()
	oldRaw, err := json.Marshal(old)
	require.NoError(t, err)
	newRaw, err := json.Marshal(updated)
	require.NoError(t, err)
	body, err := json.Marshal(&admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "1", Operation: admissionv1.Update,
			Object: runtime.RawExtension{Raw: newRaw}, OldObject: runtime.RawExtension{Raw: oldRaw},
		},
	})
	require.NoError(t, err)
	response, err := http.Post(url, "application/json", bytes.NewReader(body))
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	answer := &admissionv1.AdmissionReview{}
	require.NoError(t, json.NewDecoder(response.Body).Decode(answer))
	require.True(t, answer.Response.Allowed)
	if len(answer.Response.Patch) > 0 {
		patch, err := jsonpatch.DecodePatch(answer.Response.Patch)
		require.NoError(t, err)
		newRaw, err = patch.Apply(newRaw)
		require.NoError(t, err)
	}
	out := &appsv1.Deployment{}
	require.NoError(t, json.Unmarshal(newRaw, out))
	return out
}
