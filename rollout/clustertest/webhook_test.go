// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
	"github.com/sluice-mesh/sluice/rollout/hook"
)

// hooks may call the loopback, where the tests' receivers are.
func hooks() *hook.Runner {
	rules := hook.Rules{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	return hook.NewRunner(&hook.Sender{Rules: rules, Now: time.Now}, clock.RealClock{})
}

// receiver keeps what it was asked and told, and whether the signature was right.
type receiver struct {
	sync.Mutex
	unsigned int
	messages []rollout.HookMessage
}

func (r *receiver) ServeHTTP(_ http.ResponseWriter, request *http.Request) {
	r.Lock()
	defer r.Unlock()
	body, _ := io.ReadAll(request.Body)
	var seconds int64
	signature := request.Header.Get(hook.HeaderSignature)
	if _, err := fmt.Sscanf(signature, "t=%d,", &seconds); err != nil || hook.Signature([]byte("shared"), body, time.Unix(seconds, 0)) != signature {
		r.unsigned++
	}
	var message rollout.HookMessage
	if json.Unmarshal(body, &message) == nil {
		r.messages = append(r.messages, message)
	}
}

// Webhooks are called with the Secret that the controller was given the right to read, and with none
// other; their answers are in the run's record.
func TestWebhooksOfARun(t *testing.T) {
	b := newBed(t)
	b.start()
	received := &receiver{}
	server := httptest.NewServer(received)
	defer server.Close()
	for _, name := range []string{"release-webhooks", "of-others"} {
		require.NoError(t, b.client.Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name}, Data: map[string][]byte{v1alpha1.SecretKeyHMAC: []byte("shared")},
		}))
	}
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "sluice-webhooks"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{"release-webhooks"}, Verbs: []string{"get"}},
	}}
	require.NoError(t, b.client.Create(t.Context(), role))
	require.NoError(t, b.client.Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "sluice-webhooks"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "sluice-webhooks"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: controllerUser}},
	}))
	b.rest("app:v1", 2)
	webhooks := func(secretOfTest string) string {
		return fmt.Sprintf(`{"spec":{"webhooks":[
			{"name":"test","type":"pre-rollout","url":%[1]q,"secretRef":{"name":%[2]q}},
			{"name":"confirm","type":"confirm-traffic-increase","url":%[1]q,"secretRef":{"name":"release-webhooks"}},
			{"name":"ended","type":"post-rollout","url":%[1]q,"secretRef":{"name":"release-webhooks"}},
			{"name":"told","type":"event","url":%[1]q,"secretRef":{"name":"release-webhooks"}}]}}`, server.URL, secretOfTest)
	}
	b.patchCanary(webhooks("of-others"))
	b.git("app:v2")
	b.awaitCondition("Ready", v1alpha1.ReasonWebhookRefused)
	b.ask(v1alpha1.AnnotationAbort, "app-1")
	b.awaitCondition("Stalled", v1alpha1.ReasonRolledBack)

	b.patchCanary(webhooks("release-webhooks"))
	b.ask(v1alpha1.AnnotationRetry, "app-1")
	b.awaitStable("app:v2")
	agreed := map[string]int{}
	for _, entry := range b.run("app-2").Record.Entries {
		if entry.Hook != nil {
			require.Equal(t, int32(http.StatusOK), entry.Hook.Code)
			agreed[entry.Hook.Type]++
		}
	}
	require.Equal(t, map[string]int{"pre-rollout": 1, "confirm-traffic-increase": 2}, agreed, "two steps")
	b.eventually("those who listen were told", func() bool {
		received.Lock()
		defer received.Unlock()
		ended, promoted := false, false
		for _, message := range received.messages {
			ended = ended || message.Type == v1alpha1.WebhookPostRollout && message.Outcome == v1alpha1.OutcomePromoted
			promoted = promoted || message.Event != nil && message.Event.Reason == v1alpha1.ReasonPromoted
		}
		return ended && promoted
	})
	received.Lock()
	defer received.Unlock()
	require.Zero(t, received.unsigned)
}
