// SPDX-License-Identifier: Apache-2.0

package chain_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/chain"
)

var update = flag.Bool("update", false, "write the golden files")

var key = ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))

func public() ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

func keys() chain.Keys { return chain.Keys{chain.KeyID(public()): public()} }

func at(seconds int) metav1.Time {
	return metav1.NewTime(time.Date(2026, 11, 22, 10, 0, seconds, 0, time.UTC))
}

// recorded is a run of every kind of entry, signed.
func recorded(t *testing.T) *v1alpha1.CanaryRun {
	t.Helper()
	run := &v1alpha1.CanaryRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "app-3"},
		Spec: v1alpha1.CanaryRunSpec{
			Canary: "app", Kind: v1alpha1.RunCanary,
			Stable:    v1alpha1.RunRevision{ReplicaSet: "app-a", PodTemplateHash: "a", Template: runtime.RawExtension{Raw: []byte(`{"spec":{"b":1,"a":null}}`)}},
			Candidate: v1alpha1.RunRevision{ReplicaSet: "app-b", PodTemplateHash: "b", Template: runtime.RawExtension{Raw: []byte(`{"spec":{"c":2}}`)}},
		},
	}
	for _, entry := range []v1alpha1.RunEntry{
		{Phase: v1alpha1.PhaseHeld, Message: "a new template is held"},
		{Phase: v1alpha1.PhaseHolding, Weight: 5, Message: "weight 5 is acknowledged"},
		{Phase: v1alpha1.PhaseHolding, Weight: 5, Message: "wait", Measurement: &v1alpha1.RunMeasurement{Verdict: "wait", Reason: "3 of 100", Queries: []string{"up"}}},
		{Phase: v1alpha1.PhaseHolding, Weight: 5, Message: "hook", Hook: &v1alpha1.RunHook{Name: "load", Type: "rollout", Attempt: 1, Code: 200}},
		{Phase: v1alpha1.PhaseHolding, Weight: 5, Message: "approved", Approval: &v1alpha1.RunApproval{Name: "ok", Username: "ada", Step: 1}},
		{Phase: v1alpha1.PhaseHolding, Weight: 5, Message: "asked", Request: &v1alpha1.RunRequest{Action: "pause"}},
		{Phase: v1alpha1.PhaseRollingBack, Message: "the canary is worse", Outcome: v1alpha1.OutcomeRolledBack, Measurement: &v1alpha1.RunMeasurement{Verdict: "fail", Reason: "50 of 100"}},
		{Phase: v1alpha1.PhaseRejected, Message: "held"},
	} {
		entry.Time = at(len(run.Record.Entries))
		require.NoError(t, chain.Append(run, entry))
	}
	run.Record.Outcome = v1alpha1.OutcomeRolledBack
	ended := at(9)
	run.Record.EndedAt = &ended
	require.NoError(t, chain.Sign(run, key))
	return run
}

func TestIntact(t *testing.T) {
	run := recorded(t)
	require.NoError(t, chain.Verify(run))
	require.NoError(t, chain.CheckHead(run, keys()))
	require.True(t, chain.Holds(run, 3, run.Record.Entries[2].Hash))
	require.False(t, chain.Holds(run, 3, run.Record.Entries[1].Hash))
	require.False(t, chain.Holds(run, 99, run.Record.Entries[1].Hash))
}

// The hashes of a record of today must be those of tomorrow.
func TestHashesNeverChange(t *testing.T) {
	run := recorded(t)
	var text strings.Builder
	for _, entry := range run.Record.Entries {
		fmt.Fprintln(&text, entry.Number, entry.Hash, entry.Digest)
	}
	fmt.Fprintln(&text, run.Record.Head.KeyID, run.Record.Head.Signature)
	path := filepath.Join("testdata", "hashes.txt")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(text.String()), 0o644))
	}
	golden, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(golden), text.String())
}

// What the API server gives back has other key orders, no nulls and local times: it is the same record.
func TestSurvivesTheServer(t *testing.T) {
	run := recorded(t)
	run.Spec.Stable.Template.Raw = []byte(`{ "spec": {"b": 1} }`)
	raw, err := json.Marshal(run)
	require.NoError(t, err)
	read := &v1alpha1.CanaryRun{}
	require.NoError(t, json.Unmarshal(raw, read))
	for i := range read.Record.Entries {
		read.Record.Entries[i].Time = metav1.NewTime(read.Record.Entries[i].Time.In(time.FixedZone("local", 3600)))
	}
	require.NoError(t, chain.Verify(read))
	require.NoError(t, chain.CheckHead(read, keys()))
}

// Every single field of every entry, of the spec and of the end: changed, it is found.
func TestTamperingIsFound(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.CanaryRun){
		"name":      func(r *v1alpha1.CanaryRun) { r.Name = "app-4" },
		"namespace": func(r *v1alpha1.CanaryRun) { r.Namespace = "till" },
		"template":  func(r *v1alpha1.CanaryRun) { r.Spec.Candidate.Template.Raw = []byte(`{"spec":{"c":3}}`) },
		"source": func(r *v1alpha1.CanaryRun) {
			r.Spec.Source = &v1alpha1.RunSource{Tool: "Flux", Revision: "main@sha1:1"}
		},
		"previous":        func(r *v1alpha1.CanaryRun) { r.Spec.Previous = &v1alpha1.RunLink{Run: "app-2", Number: 1, Hash: "x"} },
		"outcome":         func(r *v1alpha1.CanaryRun) { r.Record.Outcome = v1alpha1.OutcomePromoted },
		"ended":           func(r *v1alpha1.CanaryRun) { ended := at(10); r.Record.EndedAt = &ended },
		"time":            func(r *v1alpha1.CanaryRun) { r.Record.Entries[1].Time = at(5) },
		"phase":           func(r *v1alpha1.CanaryRun) { r.Record.Entries[1].Phase = v1alpha1.PhaseScaling },
		"weight":          func(r *v1alpha1.CanaryRun) { r.Record.Entries[1].Weight = 50 },
		"message":         func(r *v1alpha1.CanaryRun) { r.Record.Entries[1].Message += " " },
		"verdict":         func(r *v1alpha1.CanaryRun) { r.Record.Entries[6].Measurement.Verdict = "pass" },
		"query":           func(r *v1alpha1.CanaryRun) { r.Record.Entries[2].Measurement.Queries[0] = "down" },
		"digest":          func(r *v1alpha1.CanaryRun) { r.Record.Entries[2].Digest = r.Record.Entries[3].Digest },
		"hook":            func(r *v1alpha1.CanaryRun) { r.Record.Entries[3].Hook.Code = 500 },
		"approver":        func(r *v1alpha1.CanaryRun) { r.Record.Entries[4].Approval.Username = "eve" },
		"request":         func(r *v1alpha1.CanaryRun) { r.Record.Entries[5].Request = nil },
		"entry's outcome": func(r *v1alpha1.CanaryRun) { r.Record.Entries[6].Outcome = "" },
		"number":          func(r *v1alpha1.CanaryRun) { r.Record.Entries[6].Number++ },
		"hash":            func(r *v1alpha1.CanaryRun) { r.Record.Entries[7].Hash = r.Record.Entries[6].Hash },
		"dropped quietly": func(r *v1alpha1.CanaryRun) { r.Record.Entries[2].Measurement = nil },
		"folded quietly": func(r *v1alpha1.CanaryRun) {
			for i := range 12 {
				require.NoError(t, chain.Append(r, v1alpha1.RunEntry{Time: at(20 + i), Phase: v1alpha1.PhaseRejected, Message: "held"}))
			}
			require.NoError(t, chain.Sign(r, key))
			require.NoError(t, errors.Join(chain.Verify(r), chain.CheckHead(r, keys())))
			require.NoError(t, chain.Shrink(r, 19, chain.MaxBytes))
			require.Len(t, r.Record.Entries, 19)
		},
		"head's number":     func(r *v1alpha1.CanaryRun) { r.Record.Head.Number-- },
		"head's summarised": func(r *v1alpha1.CanaryRun) { r.Record.Head.Summarised++ },
		"signature":         func(r *v1alpha1.CanaryRun) { r.Record.Head.Signature = "AAAA" },
		"no signature":      func(r *v1alpha1.CanaryRun) { r.Record.Head = nil },
		"key":               func(r *v1alpha1.CanaryRun) { r.Record.Head.KeyID = "0000" },
		"last entries dropped": func(r *v1alpha1.CanaryRun) {
			r.Record.Entries = r.Record.Entries[:6]
			r.Record.Outcome = ""
		},
		"an entry added": func(r *v1alpha1.CanaryRun) {
			require.NoError(t, chain.Append(r, v1alpha1.RunEntry{Time: at(11), Phase: v1alpha1.PhaseStable, Message: "forged"}))
		},
		"all worked out again": func(r *v1alpha1.CanaryRun) {
			entries := r.Record.Entries
			entries[6].Message = "all was well"
			r.Record.Entries = nil
			for _, entry := range entries {
				require.NoError(t, chain.Append(r, entry))
			}
			require.NoError(t, chain.Verify(r), "the chain alone cannot tell")
		},
	} {
		t.Run(name, func(t *testing.T) {
			run := recorded(t)
			change(run)
			require.Error(t, errors.Join(chain.Verify(run), chain.CheckHead(run, keys())))
		})
	}
}

// Any entry dropped and any two exchanged: the chain itself says so, at the right place.
func TestDroppedAndReorderedEntriesAreFound(t *testing.T) {
	count := len(recorded(t).Record.Entries)
	for i := range count - 1 {
		run := recorded(t)
		run.Record.Entries = slices.Delete(run.Record.Entries, i, i+1)
		var broken *chain.BrokenError
		require.ErrorAs(t, chain.Verify(run), &broken)
		require.Equal(t, int32(i+1), broken.Number)
		for j := i + 1; j < count; j++ {
			run := recorded(t)
			run.Record.Entries[i], run.Record.Entries[j] = run.Record.Entries[j], run.Record.Entries[i]
			require.ErrorAs(t, chain.Verify(run), &broken)
			require.Equal(t, int32(i+1), broken.Number)
		}
	}
}

func TestShrinkKeepsTheChain(t *testing.T) {
	run := recorded(t)
	for i := range 1000 {
		entry := v1alpha1.RunEntry{Time: at(i % 60), Phase: v1alpha1.PhaseHolding, Weight: 5, Message: "wait"}
		if i%100 == 50 {
			entry.Approval = &v1alpha1.RunApproval{Name: fmt.Sprint(i), Username: "ada"}
		}
		entry.Measurement = &v1alpha1.RunMeasurement{Verdict: "wait", Reason: strings.Repeat("numbers ", 200), Queries: []string{strings.Repeat("query ", 200)}}
		require.NoError(t, chain.Append(run, entry))
		require.NoError(t, chain.Shrink(run, chain.MaxEntries-1, chain.MaxBytes))
		require.NoError(t, chain.Sign(run, key))
	}
	raw, err := json.Marshal(run)
	require.NoError(t, err)
	require.LessOrEqual(t, len(raw), 256<<10)
	require.Less(t, len(run.Record.Entries), chain.MaxEntries)
	require.NoError(t, chain.Verify(run))
	require.NoError(t, chain.CheckHead(run, keys()))
	require.Equal(t, int32(1008), run.Record.Head.Number)
	approvals, last := 0, run.Record.Entries[len(run.Record.Entries)-1]
	for _, entry := range run.Record.Entries {
		if entry.Approval != nil {
			approvals++
		}
	}
	require.Equal(t, 11, approvals, "what people did is never folded")
	require.NotNil(t, last.Measurement, "the newest is kept whole")
	run.Record.Entries[0].Message = "forged"
	require.Error(t, chain.Verify(run))
}

func TestUnknownKeyIsNotForgery(t *testing.T) {
	run := recorded(t)
	require.ErrorIs(t, chain.CheckHead(run, nil), chain.ErrUnknownKey)
	other := ed25519.NewKeyFromSeed([]byte("fedcba9876543210fedcba9876543210")).Public().(ed25519.PublicKey)
	require.ErrorIs(t, chain.CheckHead(run, chain.Keys{chain.KeyID(public()): other}), chain.ErrSignature)
	run.Record.Head = nil
	require.ErrorIs(t, chain.CheckHead(run, keys()), chain.ErrUnsigned)
}

func TestEmptyRecord(t *testing.T) {
	run := &v1alpha1.CanaryRun{}
	require.NoError(t, chain.Verify(run))
	require.NoError(t, chain.Sign(run, key))
	require.Nil(t, run.Record.Head)
}
