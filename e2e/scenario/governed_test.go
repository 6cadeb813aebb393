// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package scenario

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/e2e/sampleapp"
	"github.com/sluice-mesh/sluice/e2e/timeline"
)

// TestGoverned: a run begins when the users' service agrees, waits for a person's word at its step, keeps
// the only slot of the budget meanwhile, and tells the service how it went. The next in the queue
// follows.
func TestGoverned(t *testing.T) {
	t.Parallel()
	const namespace, next, key = "governed", "governed-next", "0123456789abcdef"
	first := start(t, namespace, sampleapp.App{Replicas: 1, Canary: following(
		`steps: [{weight: 50, hold: 1s, approval: {}}, {weight: 100, hold: 1s}]`, `skipAnalysis: true`,
		`webhooks:`,
		`- {name: board, type: confirm-rollout, url: "http://desk.governed/ask", secretRef: {name: desk}}`,
		`- {name: journal, type: post-rollout, url: "http://desk.governed/tell", secretRef: {name: desk}}`)}, 20)
	service := openDesk(t, first.Address, key)
	first.lead("desk", 80, service.address)
	first.govern(next, key)
	second := start(t, next, sampleapp.App{Replicas: 1, Canary: following(`steps: [{weight: 100, hold: 1s}]`, `skipAnalysis: true`)}, 0)

	first.release("v2")
	require.Eventually(t, func() bool {
		return len(service.has(func(h heard) bool { return h.Type == "confirm-rollout" })) > 0
	}, time.Minute, 200*time.Millisecond, "the service is asked")
	state := first.await("it waits for the service", waitingFor(v1alpha1.ReasonWaitingForWebhook))
	require.Empty(t, state.UIDs(state.LatestRun().Spec.Candidate.PodTemplateHash), "no pod before the service has agreed")
	service.agree()
	first.await("it waits for a person", waitingFor(v1alpha1.ReasonAwaitingApproval))

	second.release("v2")
	state = second.await("it waits for its turn", waitingFor(v1alpha1.ReasonWaitingForBudget))
	require.Equal(t, &v1alpha1.QueueStatus{Policy: namespace, Position: 1}, state.Canary.Status.Queue)
	require.Empty(t, state.UIDs(state.LatestRun().Spec.Candidate.PodTemplateHash), "no pod before its turn")

	_, err := first.Run(t.Context(), "approve", appName, "--namespace="+namespace, "--comment=seen")
	require.NoError(t, err)
	r := first.awaitRun("")
	first.expectPromoted(r)
	first.expectNoFailures()
	second.expectPromoted(second.awaitRun(""))
	expectSayIn(t, r)
	require.Eventually(t, func() bool {
		return len(service.has(func(h heard) bool { return h.Type == "post-rollout" && h.Run == r.name && h.Outcome == "Promoted" })) == 1 &&
			len(service.has(func(h heard) bool { return h.Path == "/news" && h.Canary == appName && h.Reason == "Promoted" })) == 1
	}, time.Minute, 200*time.Millisecond, "the service is told: %+v", service.has(func(heard) bool { return true }))
	keys := map[string]bool{}
	for _, told := range service.has(func(h heard) bool { return h.Path == "/news" }) {
		require.False(t, keys[told.Key], "told twice: %+v", told)
		keys[told.Key] = true
	}
}

// govern gives this scenario's namespace and another one slot for both, and a service that is told and
// signed for.
func (f *fixture) govern(other, key string) {
	f.t.Helper()
	_, err := f.Applier.Apply(f.t.Context(), fmt.Appendf(nil, `apiVersion: v1
kind: Secret
metadata: {name: desk, namespace: %[1]s}
stringData: {hmac: %[3]q, address: "http://desk.%[1]s/news"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: sluice-desk, namespace: %[1]s}
rules: [{apiGroups: [""], resources: [secrets], resourceNames: [desk], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: sluice-desk, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: sluice-desk}
subjects: [{kind: ServiceAccount, name: %[4]s, namespace: %[5]s}]
---
apiVersion: sluice.dev/v1alpha1
kind: Notifier
metadata: {name: desk, namespace: %[1]s}
spec: {type: generic, addressSecretRef: {name: desk}}
---
apiVersion: sluice.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: %[1]s}
spec:
  namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [%[1]s, %[2]s]}]}
  maxConcurrentRuns: 1
`, f.namespace, other, key, controller, system))
	require.NoError(f.t, err)
	ctx := context.WithoutCancel(f.t.Context())
	f.t.Cleanup(func() {
		policy := &v1alpha1.RolloutPolicy{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}}
		assert.NoError(f.t, client.IgnoreNotFound(f.Client.Delete(ctx, policy)))
	})
}

// waitingFor says that a run waits, and why.
func waitingFor(reason string) func(timeline.State) bool {
	return func(s timeline.State) bool {
		reconciling := meta.FindStatusCondition(s.Canary.Status.Conditions, v1alpha1.ConditionReconciling)
		return s.LatestRun() != nil && reconciling != nil && reconciling.Reason == reason
	}
}

// expectSayIn: the record of a run says who had a say in it: the service, refusing and then agreeing, and
// the person as the API server knows him.
func expectSayIn(t *testing.T, r run) {
	t.Helper()
	entries := r.state.Runs[r.name].Record.Entries
	require.True(t, slices.ContainsFunc(entries, func(e v1alpha1.RunEntry) bool {
		return e.Hook != nil && e.Hook.Name == "board" && e.Hook.Code == 200
	}), "the service's word is in the record: %+v", entries)
	require.True(t, slices.ContainsFunc(entries, func(e v1alpha1.RunEntry) bool {
		return e.Approval != nil && e.Approval.Step == 0 && e.Approval.Username != "" && e.Approval.Comment == "seen"
	}), "the person's word is in the record: %+v", entries)
}
