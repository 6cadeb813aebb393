// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
)

// The API server itself writes who approves, over a forged name; nothing of it changes afterwards; and
// only a word for this run, step and revision lets the run go on.
func TestApproval(t *testing.T) {
	b := newBed(t)
	b.start()
	first := step(50)
	first.Approval = &v1alpha1.StepApproval{Count: 1}
	b.rest("app:v1", 2, first, step(100))
	b.git("app:v2")
	b.awaitPhase(v1alpha1.PhaseAwaitingApproval)
	waiting := b.awaitCondition("Ready", v1alpha1.ReasonAwaitingApproval)
	require.Contains(t, waiting.Message, "0 of 1 approvals of step 0 of run app-1")

	require.NoError(t, bind(t.Context(), b.client, "cluster-admin", "alice", "system:serviceaccount:ci:robot"))
	status := b.canary().Status
	give := func(user, revision string) *v1alpha1.Approval {
		given := &v1alpha1.Approval{ObjectMeta: metav1.ObjectMeta{GenerateName: "word-", Namespace: b.namespace}}
		given.Spec = v1alpha1.ApprovalSpec{Canary: "app", Run: status.Run, Revision: revision, StepsDigest: status.StepsDigest}
		given.Approver = &v1alpha1.Approver{Username: "the-boss", Groups: []string{"bosses"}}
		c, err := client.New(as(user, "people"), client.Options{Scheme: scheme()})
		require.NoError(t, err)
		require.NoError(t, c.Create(t.Context(), given))
		return given
	}
	// The policy is young: an API server may not obey it yet, and nothing older than ten seconds counts.
	var forged *v1alpha1.Approval
	b.eventually("the forged name is overwritten", func() bool {
		forged = give("alice", "another")
		return forged.Approver != nil && forged.Approver.Username == "alice"
	})
	require.Equal(t, []string{"people", "system:authenticated"}, forged.Approver.Groups)
	for _, patch := range []string{
		`{"approver":{"username":"the-boss"}}`, `{"approver":null}`, `{"spec":{"revision":"` + status.Canary.PodTemplateHash + `"}}`,
	} {
		err := b.client.Patch(t.Context(), forged.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(patch)))
		require.True(t, apierrors.IsInvalid(err), "%s: %v", patch, err)
	}

	give("system:serviceaccount:ci:robot", status.Canary.PodTemplateHash)
	b.eventually("what does not count is named", func() bool {
		for _, condition := range b.canary().Status.Conditions {
			if bytes.Contains([]byte(condition.Message), []byte("is for another revision")) {
				return true
			}
		}
		return false
	})
	require.Equal(t, v1alpha1.PhaseAwaitingApproval, b.canary().Status.Phase)

	again := time.Now()
	b.eventually("alice's word counts once the policy is old enough", func() bool {
		if time.Since(again) > time.Second && b.canary().Status.Phase == v1alpha1.PhaseAwaitingApproval {
			give("alice", status.Canary.PodTemplateHash)
			again = time.Now()
		}
		return b.canary().Status.Phase != v1alpha1.PhaseAwaitingApproval
	})
	b.awaitStable("app:v2")
	var words []v1alpha1.RunApproval
	for _, entry := range b.run("app-1").Record.Entries {
		if entry.Approval != nil {
			words = append(words, *entry.Approval)
		}
	}
	require.Len(t, words, 1)
	require.Equal(t, "alice", words[0].Username)
}

// The webhook for older clusters writes the same, over whatever was sent.
func TestApprovalWebhook(t *testing.T) {
	server := httptest.NewServer(rollout.StampHandler())
	t.Cleanup(server.Close)
	sent := []byte(`{"spec":{"canary":"app"},"approver":{"username":"the-boss","groups":["bosses"],"more":"yes"}}`)
	body, err := json.Marshal(&admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "1", Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: sent},
			UserInfo: authenticationv1.UserInfo{Username: "alice", Groups: []string{"people"}},
		},
	})
	require.NoError(t, err)
	response, err := http.Post(server.URL, "application/json", bytes.NewReader(body))
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	answer := &admissionv1.AdmissionReview{}
	require.NoError(t, json.NewDecoder(response.Body).Decode(answer))
	patch, err := jsonpatch.DecodePatch(answer.Response.Patch)
	require.NoError(t, err)
	stamped, err := patch.Apply(sent)
	require.NoError(t, err)
	require.JSONEq(t, `{"spec":{"canary":"app"},"approver":{"username":"alice","groups":["people"]}}`, string(stamped))
}
