// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// The hold goes away in mid-run and comes back later: what was not analysed takes no more than a canary's
// part meanwhile. The rule is the cluster's, so this test runs by itself.
func TestHoldIsDown(t *testing.T) {
	b := newLoneBed(t)
	b.start()
	b.rest("app:v0", 2)
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v1")
	b.awaitHolding(50)
	t.Cleanup(func() {
		require.NoError(t, installManifest(b.cleaning(), b.client, "../../config/webhook/hold-policy.yaml"))
	})
	rule := &admissionregistrationv1.MutatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "sluice-hold"}}
	require.NoError(t, b.client.Delete(t.Context(), rule))
	b.awaitHeld(false)

	b.git("app:v3") // in mid-run
	b.awaitRun("app-2")
	require.Equal(t, v1alpha1.OutcomeCancelled, b.run("app-1").Record.Outcome)
	require.Equal(t, map[string]int{"app:v0": 2, "app:v3": 1}, b.counts())
	b.gate.set(func(g *gate) { g.silent = false })
	b.awaitStable("app:v3")
	require.Equal(t, v1alpha1.OutcomePromoted, b.run("app-2").Record.Outcome)

	b.gate.set(func(g *gate) { g.silent = true })
	b.steerReady(false) // else the rollout may be over before anybody sees it
	b.git("app:v2")     // at rest: the rollout begins
	b.eventually("a run takes what has begun", func() bool { return b.canary().Status.Run == "app-3" })
	b.steerReady(true)
	b.awaitRun("app-3")
	require.Equal(t, map[string]int{"app:v3": 2, "app:v2": 1}, b.counts())
	b.requireOneOwnedSet("app:v3")

	require.NoError(t, installManifest(t.Context(), b.client, "../../config/webhook/hold-policy.yaml"))
	b.awaitHeld(true)
	b.gate.set(func(g *gate) { g.silent = false })
	b.awaitStable("app:v2")
	require.Equal(t, v1alpha1.OutcomePromoted, b.run("app-3").Record.Outcome)
	b.gate.set(func(g *gate) { g.errors = 300 })
	b.git("app:v4")
	b.awaitCondition("Stalled", v1alpha1.ReasonRolledBack)
	b.eventually("only v2 runs", func() bool { return len(b.pods()) == 1 && len(b.pods()["app:v2"]) == 2 })
}

// awaitRun waits until a run holds its first step.
func (b *bed) awaitRun(name string) {
	b.Helper()
	b.eventually(name+" holds at 50", func() bool {
		status := b.canary().Status
		return status.Run == name && status.Phase == v1alpha1.PhaseHolding && status.Weight == 50
	})
}

// counts are the numbers of live pods by image.
func (b *bed) counts() map[string]int {
	b.Helper()
	counts := map[string]int{}
	for image, pods := range b.pods() {
		counts[image] = len(pods)
	}
	return counts
}

// A validating webhook in the way of the controller's writes is down and fails closed, as policy engines do.
// The run stands as it is, says why where it can, and goes on afterwards where it would have gone.
func TestValidationIsDown(t *testing.T) {
	for name, c := range map[string]struct {
		refused []string
		silent  bool // No status can be written either, so nothing can be said.
		errors  uint64
		after   func(*bed)
		weights []int32
	}{
		"before a promotion": {
			refused: []string{"deployments", "replicasets", "canaryruns", "trafficsplits"},
			after:   func(b *bed) { b.awaitStable("app:v2") }, weights: []int32{0, 50, 100},
		},
		"before a rollback": {
			refused: []string{"deployments", "replicasets", "canaryruns", "trafficsplits"}, errors: 300,
			after: func(b *bed) { b.awaitCondition("Stalled", v1alpha1.ReasonRolledBack) }, weights: []int32{0, 50, 0},
		},
		"for the mesh's weights only": {
			refused: []string{"trafficsplits"},
			after:   func(b *bed) { b.awaitStable("app:v2") }, weights: []int32{0, 50, 100},
		},
		"for all that is written": {
			refused: []string{"*/*"}, silent: true,
			after: func(b *bed) { b.awaitStable("app:v2") }, weights: []int32{0, 50, 100},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			var refusals atomic.Int64
			b.wrap = func(inner http.RoundTripper) http.RoundTripper {
				return roundTripper(func(request *http.Request) (*http.Response, error) {
					response, err := inner.RoundTrip(request)
					if err == nil && response.StatusCode == http.StatusInternalServerError {
						refusals.Add(1)
					}
					return response, err
				})
			}
			b.start()
			b.rest("app:v1", 2)
			b.gate.set(func(g *gate) { g.silent = true })
			b.git("app:v2")
			b.awaitHolding(50)
			webhook := b.deadWebhook(c.refused)
			refusals.Store(0)
			b.gate.set(func(g *gate) { g.silent, g.errors = false, c.errors })
			if !c.silent {
				require.Contains(t, b.awaitCondition("Reconciling", v1alpha1.ReasonWriteFailed).Message, "failed calling webhook")
			}
			b.eventually("the controller tries again and again", func() bool { return refusals.Load() >= 5 })
			require.Equal(t, int32(50), b.split().Spec.Revisions[1].Weight)
			require.Equal(t, []int32{0, 50}, b.mesh.seen())
			require.Len(t, b.pods()["app:v1"], 2, "stable is whole")
			require.Empty(t, b.run("app-1").Record.Outcome)
			require.NoError(t, b.client.Delete(t.Context(), webhook))
			c.after(b)
			require.Equal(t, c.weights, b.mesh.seen(), "no weight is skipped or repeated")
		})
	}
}

// deadWebhook stands before the writes of some resources in the test's namespace, where nobody answers.
func (b *bed) deadWebhook(resources []string) client.Object {
	b.Helper()
	address, none, fail, all := "https://127.0.0.1:1/", admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.Fail, admissionregistrationv1.OperationAll
	second := int32(1)
	webhook := &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "dead-"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "dead.sluice.dev", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, FailurePolicy: &fail, TimeoutSeconds: &second,
			ClientConfig:      admissionregistrationv1.WebhookClientConfig{URL: &address},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: b.namespace}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{all},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: resources},
			}},
		}},
	}
	require.NoError(b, b.client.Create(b.Context(), webhook))
	b.Cleanup(func() { require.NoError(b, client.IgnoreNotFound(b.client.Delete(b.cleaning(), webhook))) })
	b.eventually("writes are refused", func() bool {
		split := b.split()
		return b.client.Patch(b.Context(), split, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"probe":"yes"}}}`)), client.DryRunAll) != nil
	})
	return webhook
}

// awaitHeld waits until the API server obeys the rule of the hold, or does no longer, which takes it a moment.
func (b *bed) awaitHeld(held bool) {
	b.Helper()
	probe := deployment(b.namespace, "probe", "probe:v1", 0)
	probe.Labels = map[string]string{v1alpha1.LabelCanary: "probe"}
	require.NoError(b, b.client.Create(b.Context(), probe))
	b.eventually("the hold is as it should be", func() bool {
		changed := &appsv1.Deployment{}
		require.NoError(b, b.client.Get(b.Context(), client.ObjectKeyFromObject(probe), changed))
		changed.Spec.Template.Spec.Containers[0].Image = "probe:v2"
		return b.client.Update(b.Context(), changed, client.DryRunAll) == nil && changed.Spec.Paused == held
	})
	require.NoError(b, b.client.Delete(b.Context(), probe))
}
