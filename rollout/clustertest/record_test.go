// SPDX-License-Identifier: Apache-2.0

//go:build harness

package clustertest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout"
	"github.com/sluice-mesh/sluice/rollout/chain"
)

// publishedKeys are what a verifier has: the ConfigMap.
func (b *bed) publishedKeys() chain.Keys {
	b.Helper()
	published := &corev1.ConfigMap{}
	require.NoError(b, b.client.Get(b.Context(), types.NamespacedName{Namespace: "sluice-system", Name: rollout.SealConfigMap}, published))
	keys, err := rollout.ParseKeys(published.Data)
	require.NoError(b, err)
	return keys
}

func (b *bed) events(reason string) (notes []string) {
	b.Helper()
	list := &eventsv1.EventList{}
	require.NoError(b, b.client.List(b.Context(), list, client.InNamespace(b.namespace)))
	for _, event := range list.Items {
		if event.Reason == reason {
			notes = append(notes, event.Note)
		}
	}
	return notes
}

// The record of a run as the API server keeps it is chained and signed from its first entry to its
// last, its head is in an event, and the next run is tied to it.
func TestRecordIsSealed(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 2)
	b.git("app:v2")
	b.awaitStable("app:v2")
	b.gate.set(func(g *gate) { g.errors = 500 })
	b.git("app:v3")
	b.awaitPhase(v1alpha1.PhaseRejected)
	keys := b.publishedKeys()
	for _, name := range []string{"app-1", "app-2"} {
		run := b.run(name)
		require.NoError(t, chain.Verify(run), name)
		require.NoError(t, chain.CheckHead(run, keys), name)
		require.Equal(t, run.Record.Head.Hash, run.Record.Entries[len(run.Record.Entries)-1].Hash)
	}
	first, second := b.run("app-1"), b.run("app-2")
	require.Equal(t, "app-1", second.Spec.Previous.Run)
	require.True(t, chain.Holds(first, second.Spec.Previous.Number, second.Spec.Previous.Hash))
	var looks []string
	for _, entry := range second.Record.Entries {
		if entry.Measurement != nil {
			looks = append(looks, entry.Measurement.Verdict)
		}
	}
	require.Contains(t, looks, "fail")
	b.eventually("both heads are exported", func() bool { return len(b.events(v1alpha1.ReasonRecorded)) >= 2 })
	head := first.Record.Entries[len(first.Record.Entries)-1]
	require.Contains(t, b.events(v1alpha1.ReasonRecorded), fmt.Sprintf(
		"run app-1 ended Promoted; the head of its record is %d:%s, signed by key %s", head.Number, head.Hash, first.Record.Head.KeyID))
	require.Empty(t, b.events(v1alpha1.ReasonRecordNotSigned))
}

// Not even who may write anything can slip something into a record: the controller does not sign on.
func TestChangedRecordIsNotSignedOn(t *testing.T) {
	b := newBed(t)
	b.gate.set(func(g *gate) { g.silent = true })
	b.start()
	b.rest("app:v1", 2)
	b.git("app:v2")
	b.awaitHolding(50)
	b.eventually("the record is changed", func() bool {
		run := b.run("app-1")
		before := run.DeepCopy()
		entries := run.Record.Entries
		run.Record.Entries = nil
		for i, entry := range entries {
			if i == 1 {
				entry.Message = "all is well"
			}
			require.NoError(t, chain.Append(run, entry))
		}
		run.Record.Head.Hash = run.Record.Entries[len(entries)-1].Hash
		return b.client.Patch(b.Context(), run, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})) == nil
	})
	b.gate.set(func(g *gate) { g.silent = false })
	b.awaitStable("app:v2")
	run := b.run("app-1")
	require.NoError(t, chain.Verify(run), "the chain was worked out again")
	require.ErrorIs(t, chain.CheckHead(run, b.publishedKeys()), chain.ErrUnsigned)
	b.eventually("it is said", func() bool { return len(b.events(v1alpha1.ReasonRecordNotSigned)) > 0 })
}

// A tenant who may write all his namespace's objects cannot write the controller's.
func TestTenantsCannotWriteRecords(t *testing.T) {
	b := newBed(t)
	b.start()
	b.rest("app:v1", 1)
	b.git("app:v2")
	b.awaitStable("app:v2")
	require.NoError(t, bind(t.Context(), b.client, "cluster-admin", "mallory"))
	tenant, err := client.New(as("mallory"), client.Options{Scheme: scheme()})
	require.NoError(t, err)
	run := b.run("app-1")
	require.ErrorContains(t, tenant.Delete(t.Context(), run), "written by Sluice's controllers only")
	before := run.DeepCopy()
	run.Record.Entries = run.Record.Entries[:1]
	require.ErrorContains(t, tenant.Patch(t.Context(), run, client.MergeFrom(before)), "written by Sluice's controllers only")
}
