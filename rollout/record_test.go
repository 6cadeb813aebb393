// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-mesh/sluice/analysis"
	"github.com/sluice-mesh/sluice/api/v1alpha1"
	"github.com/sluice-mesh/sluice/rollout/chain"
)

func TestAppendEntriesSkipsWhatWasWrittenBeforeACrash(t *testing.T) {
	enters := func(phase v1alpha1.Phase, message string) Entry {
		return Entry{Enters: true, RunEntry: v1alpha1.RunEntry{Phase: phase, Message: message}}
	}
	notes := func(phase v1alpha1.Phase, message string) Entry {
		return Entry{RunEntry: v1alpha1.RunEntry{Phase: phase, Message: message}}
	}
	run := &v1alpha1.CanaryRun{}
	write := func(outcome v1alpha1.Outcome, entries ...Entry) {
		require.NoError(t, appendEntries(run, RecordRun{Entries: entries, Outcome: outcome}))
	}
	messages := func() (out []string) {
		for _, entry := range run.Record.Entries {
			out = append(out, entry.Message)
		}
		return out
	}
	write("", enters("Holding", "5 of 10"))
	write("", enters("Holding", "6 of 12"))
	require.Equal(t, []string{"5 of 10"}, messages(), "the same transition with other numbers")

	batch := []Entry{notes("RollingBack", "gone"), enters("Rejected", "held")}
	write(v1alpha1.OutcomeRolledBack, batch...)
	write(v1alpha1.OutcomeRolledBack, batch...)
	require.Equal(t, []string{"5 of 10", "gone", "held"}, messages())
	require.Equal(t, v1alpha1.OutcomeRolledBack, run.Record.Outcome)

	write("", notes("Promoting", "handed over"))
	write(v1alpha1.OutcomePromoted, notes("Promoting", "handed over"), notes("Promoting", "promoted"))
	require.Equal(t, []string{"5 of 10", "gone", "held", "handed over", "promoted"}, messages())
	require.Equal(t, v1alpha1.OutcomeRolledBack, run.Record.Outcome, "an outcome is written once")
	require.NoError(t, chain.Verify(run))
}

// An outcome is not lost when its entry looks like the last one that was written.
func TestOutcomeIsNeverTakenForARepetition(t *testing.T) {
	run := &v1alpha1.CanaryRun{}
	entry := Entry{Enters: true, RunEntry: v1alpha1.RunEntry{Phase: v1alpha1.PhaseRollingBack}}
	require.NoError(t, appendEntries(run, RecordRun{Entries: []Entry{entry}}))
	require.NoError(t, appendEntries(run, RecordRun{Entries: []Entry{entry}, Outcome: v1alpha1.OutcomeCancelled}))
	require.Equal(t, v1alpha1.OutcomeCancelled, run.Record.Outcome)
	require.NoError(t, chain.Verify(run))
}

func TestRecordStaysWithinItsLimits(t *testing.T) {
	run := &v1alpha1.CanaryRun{}
	for i := range 3 * chain.MaxEntries {
		entry := Entry{RunEntry: v1alpha1.RunEntry{Phase: v1alpha1.PhaseHolding, Message: fmt.Sprint(i), Request: &v1alpha1.RunRequest{Action: "pause"}}}
		require.NoError(t, appendEntries(run, RecordRun{Entries: []Entry{entry}}))
	}
	require.LessOrEqual(t, len(run.Record.Entries), chain.MaxEntries)
	require.NoError(t, chain.Verify(run))
	require.Equal(t, int32(3*chain.MaxEntries), run.Record.Entries[len(run.Record.Entries)-1].Number)
}

// A look that changes the verdict, and one that decides, are in the record with what they saw; the
// thousand looks in between are not.
func TestRecordKeepsTheLooksThatMattered(t *testing.T) {
	w := holdingAt(t, 10)
	look := func(verdict analysis.Verdict) {
		w.seen.Gate = judged(verdict)
		w.seen.Gate.Queries = []string{"response_total"}
		w.seen.Gate.Judgement.Canary.Requests = 7
		w.now = w.now.Add(time.Second)
		w.reconcile(false)
	}
	before := len(w.seen.Runs[0].Record.Entries)
	for range 50 {
		look(analysis.VerdictWait)
	}
	look(analysis.VerdictHold)
	look(analysis.VerdictHold)
	look(analysis.VerdictFail)
	entries := w.seen.Runs[0].Record.Entries[before:]
	var verdicts []string
	for _, entry := range entries {
		if entry.Measurement != nil {
			verdicts = append(verdicts, entry.Measurement.Verdict)
			require.Equal(t, []string{"response_total"}, entry.Measurement.Queries)
			require.Equal(t, int64(7), entry.Measurement.Canary.Requests)
		}
	}
	require.Equal(t, []string{"wait", "hold", "fail"}, verdicts)
	require.Equal(t, v1alpha1.PhaseRollingBack, entries[len(entries)-1].Phase)
	require.Equal(t, v1alpha1.OutcomeRolledBack, entries[len(entries)-1].Outcome)
	require.NoError(t, chain.Verify(&w.seen.Runs[0]))
}

func TestPruneKeepsWhatIsNeeded(t *testing.T) {
	w := newWorld(1)
	w.push("A")
	w.until(t, func() bool { return w.canary.Status.Phase == v1alpha1.PhaseStable && w.still() })
	other, err := revisionOf("app-x", "x", template("X"))
	require.NoError(t, err)
	current, err := revisionOf("app-a", "a", template("A"))
	require.NoError(t, err)
	ended := func(number int, outcome v1alpha1.Outcome, ago time.Duration, candidate v1alpha1.RunRevision) v1alpha1.CanaryRun {
		at := metav1.NewTime(w.now.Add(-ago))
		return v1alpha1.CanaryRun{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("app-%d", number)},
			Spec:       v1alpha1.CanaryRunSpec{Stable: other, Candidate: candidate},
			Record:     v1alpha1.CanaryRunRecord{Outcome: outcome, EndedAt: &at},
		}
	}
	w.seen.Runs = []v1alpha1.CanaryRun{
		ended(9, v1alpha1.OutcomeCancelled, time.Hour, other),
		ended(8, v1alpha1.OutcomeCancelled, 2*time.Hour, other),
		ended(7, v1alpha1.OutcomePromoted, 3*time.Hour, other),       // may be returned to
		ended(6, v1alpha1.OutcomePromoted, 48*time.Hour, other),      // outside the window
		ended(5, v1alpha1.OutcomeRolledBack, 72*time.Hour, current),  // rejects what the workload has
		ended(4, v1alpha1.OutcomeRolledBack, 96*time.Hour, other),    // rejects something else
		{ObjectMeta: metav1.ObjectMeta{Name: "app-3"}},               // never ended
		ended(2, v1alpha1.OutcomeCancelled, 1000*time.Hour, current), // the current run
	}
	w.canary.Status.Run = "app-2"
	deleted := func(history *v1alpha1.History) (names []string) {
		w.canary.Spec.History = history
		for _, effect := range Plan(&w.canary, w.observe(), w.now).Effects {
			if e, ok := effect.(DeleteRun); ok {
				names = append(names, e.Name)
			}
		}
		return names
	}
	require.Empty(t, deleted(nil))
	require.Equal(t, []string{"app-6", "app-4"}, deleted(&v1alpha1.History{Limit: 2}))
	require.Equal(t, []string{"app-6", "app-4"}, deleted(&v1alpha1.History{MaxAge: metav1.Duration{Duration: 4 * time.Hour}}))
	w.seen.Runs[1].Spec.Candidate.Template.Raw = fmt.Appendf(nil, "%q", strings.Repeat("x", maxHistoryBytes))
	require.Equal(t, []string{"app-8", "app-6", "app-4"}, deleted(nil), "by size")
}

// Each run's record is tied to the one before: a run that is taken out from between leaves a gap.
func TestRunsAreTiedTogether(t *testing.T) {
	w := holdingAt(t, 10)
	w.seen.Runs[0].Record.Head = &v1alpha1.RunHead{Number: 3, Hash: "abc"}
	first := w.seen.Runs[0].Name
	w.push("C")
	w.seen.Source = &v1alpha1.RunSource{Tool: v1alpha1.SourceFlux, Revision: "main@sha1:1f2e"}
	w.until(t, func() bool { return len(w.seen.Runs) == 2 })
	require.Equal(t, &v1alpha1.RunLink{Run: first, Number: 3, Hash: "abc"}, w.seen.Runs[0].Spec.Previous)
	require.Equal(t, "main@sha1:1f2e", w.seen.Runs[0].Spec.Source.Revision)
}
