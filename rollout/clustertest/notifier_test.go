// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/hook"
	"github.com/sluice-mesh/sluice/rollout/notify"
)

// journal keeps each message once, as a receiver does that looks at the key.
type journal struct {
	sync.Mutex
	unsigned int
	keys     map[string]bool
	reasons  []string
}

func (j *journal) ServeHTTP(_ http.ResponseWriter, request *http.Request) {
	j.Lock()
	defer j.Unlock()
	body, _ := io.ReadAll(request.Body)
	if request.Header.Get(hook.HeaderSignature) == "" {
		j.unsigned++
	}
	var message notify.Message
	if key := request.Header.Get(hook.HeaderIdempotency); !j.keys[key] && json.Unmarshal(body, &message) == nil {
		j.keys[key] = true
		j.reasons = append(j.reasons, message.Reason)
	}
}

func (j *journal) told() []string {
	j.Lock()
	defer j.Unlock()
	return slices.Clone(j.reasons)
}

// A Notifier with the controller's own rights: each transition of a release is told, in order and once,
// though the controller is restarted in the midst of it; and it is Ready only when it can be told.
func TestNotifierOfARun(t *testing.T) {
	b := newBed(t)
	b.start()
	received := &journal{keys: map[string]bool{}}
	server := httptest.NewServer(received)
	t.Cleanup(server.Close)
	require.NoError(t, b.client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "journal"},
		Data:       map[string][]byte{v1alpha1.SecretKeyAddress: []byte(server.URL), v1alpha1.SecretKeyHMAC: []byte("shared")},
	}))
	notifier := func(name string, spec v1alpha1.NotifierSpec) *v1alpha1.Notifier {
		return &v1alpha1.Notifier{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name}, Spec: spec}
	}
	secret := &v1alpha1.SecretReference{Name: "journal"}
	require.NoError(t, b.client.Create(t.Context(), notifier("journal", v1alpha1.NotifierSpec{Type: v1alpha1.NotifierGeneric, AddressSecretRef: secret})))
	b.awaitNotifier("journal", v1alpha1.ReasonAddressRefused)

	require.NoError(t, b.client.Create(t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "sluice-webhooks"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{"journal"}, Verbs: []string{"get"}}},
	}))
	require.NoError(t, b.client.Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "sluice-webhooks"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "sluice-webhooks"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: controllerUser}},
	}))
	// A port where nobody listens: it is tried for a minute, and nothing waits for it.
	require.NoError(t, b.client.Create(t.Context(), notifier("deaf", v1alpha1.NotifierSpec{Type: v1alpha1.NotifierSlack, Address: "http://127.0.0.1:1/"})))
	b.rest("app:v1", 2)
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(50)
	b.restart()
	b.awaitNotifier("journal", v1alpha1.ReasonDelivering)
	b.gate.set(func(g *gate) { g.silent = false })
	b.awaitStable("app:v2")
	want := []string{
		v1alpha1.ReasonRunStarted, v1alpha1.ReasonScaling, v1alpha1.ReasonShifting, v1alpha1.ReasonHolding, v1alpha1.ReasonScaling,
		v1alpha1.ReasonShifting, v1alpha1.ReasonHolding, v1alpha1.ReasonPromoting, v1alpha1.ReasonPromoted, v1alpha1.ReasonRecorded,
	}
	b.eventually("all was told", func() bool { return slices.Contains(received.told(), v1alpha1.ReasonRecorded) })
	told := slices.DeleteFunc(received.told(), func(reason string) bool { return !slices.Contains(want, reason) })
	require.Equal(t, want, told)
	require.Zero(t, received.unsigned)

	both := v1alpha1.NotifierSpec{Type: v1alpha1.NotifierSlack, Address: "https://chat.example", AddressSecretRef: secret}
	err := b.client.Create(t.Context(), notifier("both", both))
	require.True(t, apierrors.IsInvalid(err) && err != nil)
	require.ErrorContains(t, err, "write either address or addressSecretRef")
}

func (b *bed) awaitNotifier(name, reason string) {
	b.Helper()
	b.eventually("Notifier "+name+": "+reason, func() bool {
		notifier := &v1alpha1.Notifier{}
		require.NoError(b, b.client.Get(b.Context(), b.key(name), notifier))
		for _, condition := range notifier.Status.Conditions {
			if condition.Type == v1alpha1.ConditionReady && condition.Reason == reason {
				return true
			}
		}
		return false
	})
}
