// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
)

// ask puts an annotation on the Canary, as the command line does.
func (b *bed) ask(annotation, value string) {
	b.Helper()
	b.patchCanary(fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, annotation, value))
}

// People abort a run: traffic first, then the pods; the template stays rejected until they ask for
// another try, and that try may be promoted without its gates.
func TestAbortRetryPromote(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	stable := b.pods()["app:v1"]
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(50)

	b.ask(v1alpha1.AnnotationAbort, "app-1")
	b.awaitCondition("Stalled", v1alpha1.ReasonRolledBack)
	require.Equal(t, map[string][]string{"app:v1": stable}, b.pods())
	require.Equal(t, []int32{0, 50, 0}, b.mesh.seen())
	requests := b.requests("app-1")
	require.Len(t, requests, 1)
	require.Equal(t, "abort", requests[0].Action)
	require.NotEmpty(t, requests[0].By, "the API server noted who wrote it")

	b.ask(v1alpha1.AnnotationRetry, "app-1")
	b.eventually("another run holds", func() bool {
		canary := b.canary()
		return canary.Status.Run == "app-2" && canary.Status.Phase == v1alpha1.PhaseHolding
	})
	b.ask(v1alpha1.AnnotationPromote, "app-2")
	b.awaitStable("app:v2")
	require.Equal(t, v1alpha1.OutcomePromoted, b.run("app-2").Record.Outcome)
	require.Equal(t, []int32{0, 50, 0, 0, 50, 100}, b.mesh.seen(), "promotion goes by the steps' own way")
}

func (b *bed) requests(run string) (out []v1alpha1.RunRequest) {
	b.Helper()
	for _, entry := range b.run(run).Record.Entries {
		if entry.Request != nil {
			out = append(out, *entry.Request)
		}
	}
	return out
}

// A pause keeps the weight, survives a restart of the controller, and ends with the annotation.
func TestPauseAndResume(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.gate.set(func(g *gate) { g.silent = true })
	b.git("app:v2")
	b.awaitHolding(50)
	b.ask(v1alpha1.AnnotationPause, "app-1")
	b.awaitCondition("Ready", v1alpha1.ReasonPaused)
	b.gate.set(func(g *gate) { g.silent = false })
	b.restart()
	b.eventually("the gate is judged on, and passes", func() bool {
		verdict := b.canary().Status.Verdict
		return verdict != nil && verdict.Verdict == "pass"
	})
	require.Equal(t, []int32{0, 50}, b.mesh.seen())
	b.patchCanary(fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, v1alpha1.AnnotationPause))
	b.awaitStable("app:v2")
	requests := b.requests("app-1")
	require.Len(t, requests, 2)
	require.Equal(t, []string{"pause", "resume"}, []string{requests[0].Action, requests[1].Action})
}

// Beside a hold kubectl restarts nothing; Sluice does, one pod after the other, within the budget.
func TestRestartOfHeldStable(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	old := b.pods()["app:v1"]
	b.gate.set(func(g *gate) { g.errors = 300 })
	b.git("app:v2")
	b.awaitCondition("Stalled", v1alpha1.ReasonRolledBack)

	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: app, Namespace: b.namespace}}
	none := intstr.FromInt32(0)
	budget.Spec.MaxUnavailable = &none
	budget.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
	require.NoError(t, b.client.Create(t.Context(), budget))
	b.eventually("the budget counts", func() bool {
		require.NoError(t, b.client.Get(t.Context(), b.key(app), budget))
		return budget.Status.ObservedGeneration == budget.Generation && budget.Status.ExpectedPods == 2
	})
	// Times are kept in seconds: nothing that is there is as young as this, and what comes is not older.
	at := time.Now().Add(time.Second).UTC().Format(time.RFC3339)
	b.ask(v1alpha1.AnnotationRestart, at)
	b.eventually("it was refused a few times", func() bool { return time.Now().UTC().Format(time.RFC3339) > at })
	require.Equal(t, old, b.pods()["app:v1"], "the budget allows nothing")

	b.patch(budget, `{"spec":{"maxUnavailable":1}}`)
	b.eventually("all pods are new", func() bool {
		now := b.pods()["app:v1"]
		return len(now) == 2 && !slices.Contains(now, old[0]) && !slices.Contains(now, old[1]) && b.canary().Status.LastHandledRestartAt == at
	})
	require.Equal(t, v1alpha1.PhaseRejected, b.canary().Status.Phase)
	require.Empty(t, b.pods()["app:v2"])
}

// No step is begun while a Canary that is depended on is missing.
func TestDependsOn(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 1)
	b.patchCanary(`{"spec":{"dependsOn":[{"name":"database"}]}}`)
	b.git("app:v2")
	waiting := b.awaitCondition("Reconciling", v1alpha1.ReasonWaitingForDependency)
	require.Contains(t, waiting.Message, b.namespace+"/database does not exist")
	require.Nil(t, b.split())

	d := deployment(b.namespace, "database", "db:v1", 1)
	require.NoError(t, b.client.Create(t.Context(), d))
	database := &v1alpha1.Canary{ObjectMeta: metav1.ObjectMeta{Name: "database", Namespace: b.namespace}}
	database.Spec.TargetRef = v1alpha1.TargetReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "database"}
	database.Spec.Steps = []v1alpha1.Step{step(100)}
	require.NoError(t, b.client.Create(t.Context(), database))
	b.awaitStable("app:v2")
}
